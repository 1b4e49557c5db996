"""One picture's way over the device, in one part or several."""

from app.batching.jobs import Items, Queue, Reservation, Rows
from app.scoring.request import PreparedPicture, ScoreRequest, Timing


class Passage:
    """Takes the parts of one picture to their rows.

    Args:
        queue: Groups them with those of others.
        upload: The picture.
        order: What is asked of it.
        place: The room that is kept for all its parts.
    """

    def __init__(self, queue: Queue, upload: PreparedPicture, order: ScoreRequest, place: Reservation) -> None:
        self._queue = queue
        self._upload = upload
        self._order = order
        self._place = place
        self._queue_seconds = self._compute_seconds = 0.0

    @property
    def timing(self) -> Timing:
        """Where the time went so far."""
        return Timing(decode=self._upload.decode_seconds, queue=self._queue_seconds, compute=self._compute_seconds)

    async def rows(self, key: str, items: Items) -> Rows:
        """The rows of a part.

        Args:
            key: Names the engine.
            items: At least one.

        Raises:
            BatcherError: The queue's reasons.
        """
        answer = await self._queue.submit(
            key,
            items,
            deadline=self._upload.deadline,
            priority=self._order.priority,
            owner=self._order.owner,
            place=self._place,
        )
        self._queue_seconds += answer.queue_seconds
        self._compute_seconds += answer.compute_seconds
        return answer.rows_ND
