"""The OpenAPI document: bodies, headers and problems that FastAPI cannot know by itself."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from app.http import problems
from app.http.problems import EVERYWHERE, MEDIA_TYPE, responses
from app.http.upload import FIELD, MULTIPART

ID_PATTERN = "[A-Za-z0-9._-]{1,64}"
"""Pattern of valid request ids."""

BINARY = {"type": "string", "format": "binary"}
FORM: dict[str, Any] = {"type": "object", "required": [FIELD], "additionalProperties": False}
"""Form schema. Other fields are refused."""
PICTURE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"The picture: the multipart field `{FIELD}`, or the body itself.",
        "content": {
            MULTIPART: {"schema": {**FORM, "properties": {FIELD: BINARY}}},
            "image/*": {"schema": BINARY},
            "application/octet-stream": {"schema": BINARY},
        },
    }
}


def pictures_body(count: str = "{count}") -> dict[str, Any]:
    """The body of a route that takes several pictures.

    Args:
        count: How many; ``install`` fills in what a setting says. It is told in words: of an array of files with bounds
            the generator of Go's clients makes code that does not compile.
    """
    return {
        "requestBody": {
            "required": True,
            "description": f"The pictures, {count} of them: the multipart field `{FIELD}`, once for each.",
            "content": {MULTIPART: {"schema": {**FORM, "properties": {FIELD: {"type": "array", "items": BINARY}}}}},
        }
    }


PICTURE_PROBLEMS = responses(
    *(
        code
        for code in problems.TABLE
        if code
        not in {
            "not_found",
            "method_not_allowed",
            "attention_not_supported",
            "stages_not_supported",
            "comparison_not_supported",
            "picking_not_supported",
            "too_few_files",
            "client_disconnected",
            "admin_key_required",
            "reload_failed",
        }
    )
)
"""Problems of every route that takes pictures."""
_TAG = {
    "description": "Names what the answer follows from; for `If-None-Match`.",
    "required": True,
    "schema": {"type": "string", "pattern": '^W/"[0-9a-f]{32}"$'},
}
TAGGED: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "ETag": _TAG,
            "X-Cache": {
                "description": "Whether the score was in memory.",
                "required": True,
                "schema": {"type": "string", "enum": ["hit", "miss"]},
            },
        }
    },
    304: {"description": "The score is what it was.", "headers": {"ETag": _TAG}},
}
_AGAIN = {
    "description": "Seconds until it may be worth asking again.",
    "schema": {"type": "integer", "minimum": 1},
}
_HEADERS: dict[str, dict[str, Any]] = {
    "RequestId": {
        "description": "The request's id: the one that it came with, if that one is sane.",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{ID_PATTERN}$"},
    },
    "Challenge": {"description": "How to send a key.", "required": True, "schema": {"type": "string"}},
    "RetryAfter": {**_AGAIN, "required": True},
    "MayRetryAfter": _AGAIN,
}
_OF_STATUS = {
    "401": {"WWW-Authenticate": "Challenge"},
    "429": {"Retry-After": "RetryAfter"},
    "503": {"Retry-After": "MayRetryAfter"},
}
_NEVER_SENT = ("HTTPValidationError", "ValidationError")


def install(app: FastAPI, *, open_to_all: bool, max_files: int, root_path: str) -> None:
    """Correct the application's OpenAPI document: security, problems, headers, and the limit on files.

    Args:
        app: The application, with all its routes.
        open_to_all: Whether only the ``/admin`` routes need a key.
        max_files: Largest number of pictures in one request.
        root_path: Path below which a proxy makes the service known; "" for none.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = FastAPI.openapi(app)
            for path, operation in _operations(document):
                _correct(operation, public=open_to_all and not path.startswith("/admin/"))
            batch = document["paths"]["/score/batch"]["post"]["requestBody"]
            batch["description"] = batch["description"].format(count=f"1 to {max_files}")
            components = document["components"]
            components["headers"] = _HEADERS
            if root_path:
                document["servers"] = [{"url": root_path}]
            for name in _NEVER_SENT:
                components["schemas"].pop(name, None)
            _doubles(components["schemas"])
        return FastAPI.openapi(app)

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to change the document


def answers(app: FastAPI) -> Iterator[tuple[str, str]]:
    """The routes of an application by their templates, each with the statuses that it may answer with.

    Those are the statuses of the document, 499 where pictures are taken, and 404 and 405 of no route (``unmatched``).
    """
    for path, operation in _operations(app.openapi()):
        for status in operation["responses"]:
            yield path, status
        if "requestBody" in operation:
            yield path, str(problems.TABLE["client_disconnected"][0])
    for code in ("not_found", "method_not_allowed"):
        yield "unmatched", str(problems.TABLE[code][0])


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            yield path, operation


def _correct(operation: dict[str, Any], *, public: bool) -> None:
    for parameter in operation.get("parameters", ()):
        _without_null(parameter["schema"])
    if "security" in operation and public:
        # The key is optional: the empty requirement is an alternative.
        operation["security"].append({})
    answers = operation["responses"]
    for status, answer in list(answers.items()):
        content = answer.get("content", {})
        reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
        if reference.endswith("/HTTPValidationError"):
            del answers[status]
        elif reference.endswith("/ProblemBody"):
            content[MEDIA_TYPE] = content.pop("application/json")
    for code in EVERYWHERE:
        _add(answers, code)
    for status, answer in answers.items():
        for name, component in {"X-Request-ID": "RequestId", **_OF_STATUS.get(status, {})}.items():
            answer.setdefault("headers", {})[name] = {"$ref": f"#/components/headers/{component}"}
    operation["responses"] = dict(sorted(answers.items()))


def _add(answers: dict[str, Any], code: str) -> None:
    """Add a problem that the route itself does not declare."""
    ((status, described),) = responses(code).items()
    schema = {"$ref": "#/components/schemas/ProblemBody"}
    answer = answers.setdefault(str(status), {"description": "", "content": {MEDIA_TYPE: {"schema": schema}}})
    if f"`{code}`" not in answer["description"]:
        answer["description"] = "; ".join(filter(None, (answer["description"], described["description"])))


def _doubles(schema: Any) -> None:
    """Say that numbers are of double precision: generators take them for single, and scores would lose digits."""
    if isinstance(schema, dict):
        if schema.get("type") == "number":
            schema["format"] = "double"
        for part in schema.values():
            _doubles(part)
    elif isinstance(schema, list):
        for part in schema:
            _doubles(part)


def _without_null(schema: dict[str, Any]) -> None:
    """Remove ``null`` from a parameter's schema: an optional parameter is left out, it is never null."""
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1:
        schema.update(kinds[0])
    elif kinds:
        schema["anyOf"] = kinds
