"""Why a thread stops with a picture before it is decoded; the decoder catches both."""


class CallerGone(Exception):
    """The caller has left since a thread took its picture."""


class NoRoom(Exception):
    """The pixels of a picture do not fit now."""
