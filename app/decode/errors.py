"""Why a picture is not decoded. The decoder catches the last two, with which a thread stops."""


class DecoderFull(Exception):
    """All decoder slots are taken: ``max_decodes`` pictures are being decoded or wait for it.

    Attributes:
        retry_after: Whole seconds until the pictures that wait now are decoded, by an estimate; at least 1.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class CallerGone(Exception):
    """The caller has left since a thread took its picture."""


class NoRoom(Exception):
    """The pixels of a picture do not fit now."""
