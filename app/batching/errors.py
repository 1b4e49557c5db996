"""Why a request gets no rows. Each error carries what its caller needs to know."""


class BatcherError(Exception):
    """A request gets no rows."""


class QueueFull(BatcherError):
    """Too much waits already.

    Attributes:
        retry_after: When to come again, in whole seconds.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class DeadlineExceeded(BatcherError):
    """The deadline passed before the rows were there.

    Attributes:
        seconds: How long the request had; None where only the moment of its deadline is known.
    """

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class EngineFailed(BatcherError):
    """The engine failed on this request, also when it was alone."""


class DeviceLost(BatcherError):
    """A worker thread has ended or hangs; only a new process will compute again.

    Attributes:
        wanted: What cannot be done to pictures or models any more.
    """

    def __init__(self, wanted: str = "computed") -> None:
        super().__init__(wanted)
        self.wanted = wanted
