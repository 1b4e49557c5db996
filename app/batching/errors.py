"""Errors of the batcher. Each carries the data that its answer needs."""


class BatcherError(Exception):
    """The batcher has no rows for a submission."""


class QueueFull(BatcherError):
    """The queue has no capacity for the crops.

    Attributes:
        retry_after: Whole seconds until a retry may succeed.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class DeadlineExceeded(BatcherError):
    """The deadline passed before the rows were there.

    Attributes:
        seconds: Time limit of the request; None where only the moment of its deadline is known.
    """

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class EngineFailed(BatcherError):
    """The engine failed on this submission, also in a batch of its own."""


class DeviceLost(BatcherError):
    """A worker thread has ended or hangs; only a new process can compute again.

    Attributes:
        wanted: The operation that is impossible now, as a participle for the message: computed, loaded.
    """

    def __init__(self, wanted: str = "computed") -> None:
        super().__init__(wanted)
        self.wanted = wanted
