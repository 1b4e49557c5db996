"""Everything that can go wrong between a caller and an answer.

SmartIQAError
|-- Unreachable    no connection, or it broke
|   `-- TimedOut    no answer within the client's time
|-- BadAnswer    what answered does not speak like the service
`-- Problem    the service, or a gateway before it, answered with an error
    |-- RequestProblem    the same request will always fail
    |   |-- KeyRefused    401, 403: missing_key, invalid_key, admin_key_required
    |   |-- UnknownModel    404: unknown_model
    |   |-- UnknownPolicy   404: unknown_policy
    |   `-- NotSupported    409: attention_, comparison_, map_, picking_, policy_, stages_not_supported
    |-- PictureProblem    this picture cannot be scored; others can
    `-- ServiceProblem    500, 408: another time it may work
        |-- Overloaded    429: queue_full, rate_limited
        |-- Unavailable    502, 503: not_ready, draining, device_lost, too_many_connections
        `-- DeadlineExceeded    504: deadline_exceeded

``code`` names a problem exactly and stays as it is from version to version; statuses and codes that this version does
not know become the class that their status suggests.
"""

import contextlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2


class SmartIQAError(Exception):
    """No answer."""


class Unreachable(SmartIQAError):
    """The service could not be reached, or the connection broke before the answer."""


class TimedOut(Unreachable):
    """The service did not take or send a byte within the client's ``timeout``."""


class BadAnswer(SmartIQAError):
    """What came is no answer of the service: something else listens at the address, or stands in between."""


class Problem(SmartIQAError):
    """The service answered with an error.

    Attributes:
        status: HTTP status.
        code: Stable name of the problem; "" if the answer is not the service's own, but a gateway's.
        title: What the code means.
        detail: What happened this time.
        request_id: By which the service's log knows the request; "" if there is none.
        retry_after: Seconds after which to come again, if the service told.
    """

    def __init__(
        self,
        status: int,
        code: str = "",
        title: str = "",
        detail: str = "",
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, code, title, detail, request_id, retry_after)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        told = self.detail or self.title or "no reason was given"
        known_as = f"{self.status} {self.code}".strip()
        return f"{known_as}: {told}" + (f" (request {self.request_id})" if self.request_id else "")


class RequestProblem(Problem):
    """The request is wrong, and will be the next time too."""


class KeyRefused(RequestProblem):
    """The key is missing, unknown, or not allowed to do that."""


class UnknownModel(RequestProblem):
    """No model of that name is loaded."""


class UnknownPolicy(RequestProblem):
    """There is no policy of that name."""


class NotSupported(RequestProblem):
    """The model has no stage weights, stages, map or intervals, or not what the policy asks for."""


class PictureProblem(Problem):
    """The picture cannot be scored: its format, its size, its damage."""


class ServiceProblem(Problem):
    """The service failed; the picture and the request may be sound."""


class Overloaded(ServiceProblem):
    """The service is at capacity, or the key has used up its rate."""


class Unavailable(ServiceProblem):
    """The service does not take work now."""


class DeadlineExceeded(ServiceProblem):
    """The answer did not come in time: the caller's ``deadline``, or the service's own."""


_BY_CODE: dict[str, type[Problem]] = {
    "unknown_model": UnknownModel,
    "unknown_policy": UnknownPolicy,
    "reload_failed": RequestProblem,
    "upload_too_slow": ServiceProblem,
    "head_too_slow": ServiceProblem,
    **dict.fromkeys(
        (
            "empty_body",
            "body_too_large",
            "unsupported_format",
            "image_undecodable",
            "image_truncated",
            "too_many_pixels",
            "image_too_small",
            "extreme_aspect",
            "image_too_costly",
            "image_quarantined",
        ),
        PictureProblem,
    ),
}
"""Where the code tells more than the status."""
_BY_STATUS: dict[int, type[Problem]] = {
    401: KeyRefused,
    403: KeyRefused,
    409: NotSupported,
    413: PictureProblem,
    429: Overloaded,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}


def of_response(response: httpx2.Response) -> Problem | BadAnswer:
    """The error that an answer other than a success tells of."""
    if response.status_code < 400:
        return BadAnswer(f"status {response.status_code} where an answer was expected")
    told: dict[str, object] = {}
    with contextlib.suppress(ValueError):  # a gateway's page
        if isinstance(body := response.json(), dict):
            told = body
    code, title, detail, request_id = (str(told.get(name, "")) for name in ("code", "title", "detail", "request_id"))
    return problem_class(response.status_code, code)(
        response.status_code,
        code,
        title,
        detail,
        request_id or response.headers.get("X-Request-ID", ""),
        retry_after(response),
    )


def of_transport(error: httpx2.RequestError) -> SmartIQAError:
    """The error that a failure of the connection becomes."""
    match error:
        case httpx2.DecodingError():
            return BadAnswer("the answer's encoding is broken")
        case httpx2.TimeoutException():
            return TimedOut(f"no answer in time ({type(error).__name__})")
    return Unreachable(f"no connection ({type(error).__name__})")


def problem_class(status: int, code: str) -> type[Problem]:
    """The class of a problem."""
    if (known := _BY_CODE.get(code) or _BY_STATUS.get(status)) is not None:
        return known
    return ServiceProblem if status >= 500 else RequestProblem


def retry_after(response: httpx2.Response) -> float | None:
    """Seconds that ``Retry-After`` asks to wait, given as a number or as a date; None if it does not say."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal() and len(value) < 10:
        return float(value)
    then, now = _date(value), _date(response.headers.get("Date", ""))
    # By the sender's clock, which alone goes with its date.
    return max((then - now).total_seconds(), 0.0) if then and now else None


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
