"""API keys: long random strings. The service stores only their SHA-256.

A key has 256 random bits, so its plain hash gives nothing away and needs neither salt nor stretching. A file of keys
holds one ``name sha256`` per line; ``#`` begins a comment. A name may have two entries while its key is being replaced.
"""

import hashlib
import logging
import os
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from app.settings import blaming, variable

log = logging.getLogger("smart_iqa.keys")

CHECK_SECONDS = 1.0
"""Shortest time between two checks whether the file has changed."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Entry(NamedTuple):
    name: str
    digest: str


class Keys:
    """Keys of one kind (ordinary or admin), from the settings and from a file that is reloaded when it changes.

    Args:
        given: Entries from the settings, each ``name:sha256``.
        file: A file of entries.
        clock: Returns seconds of a monotonic clock.
        setting: Name of the setting with the entries; with ``_file``, of that with the file. For errors.

    Raises:
        ValueError: An entry is malformed.
        OSError: The file cannot be read.
    """

    def __init__(
        self, given: Sequence[str], file: Path | None, *, clock: Callable[[], float], setting: str = "api_keys"
    ) -> None:
        self._given = [
            _entry(text.partition(":"), f"{variable(setting)}, key {place}") for place, text in enumerate(given, 1)
        ]
        self._file = file
        self._clock = clock
        self._seen = _stamp(file)
        self._checked = clock()
        with blaming(variable(f"{setting}_file")):
            self._read = _entries(file)

    def __len__(self) -> int:
        """The number of keys that are known now."""
        self._refresh()
        return len(self._given) + len(self._read)

    @property
    def configured(self) -> bool:
        """Whether a key is required; with an empty file, no key is valid."""
        return bool(self._given) or self._file is not None

    def names(self) -> set[str]:
        """Names of the owners of all keys."""
        self._refresh()
        return {entry.name for entry in (*self._given, *self._read)}

    def owner(self, key: str) -> str | None:
        """The name of a key's owner; None if the key is unknown."""
        self._refresh()
        digest = hashlib.sha256(key.encode()).hexdigest()
        owner = None
        # Compares with all entries, also after a match, so that the time reveals nothing about them.
        for entry in (*self._given, *self._read):
            if secrets.compare_digest(entry.digest, digest):
                owner = entry.name
        return owner

    def _refresh(self) -> None:
        now = self._clock()
        if self._file is None or now - self._checked < CHECK_SECONDS:
            return
        self._checked = now
        if (stamp := _stamp(self._file)) == self._seen:
            return
        # Set before the file is read: a malformed file is then logged once, not at every check.
        self._seen = stamp
        try:
            self._read = _entries(self._file)
            log.info("%d keys were read again", len(self._read))
        except (OSError, ValueError) as error:
            log.error("the old keys stay, because the new ones cannot be read: %s", error)


def make(name: str) -> tuple[str, str]:
    """Generate a key.

    Args:
        name: Name of its owner.

    Returns:
        The key, and its line for the file of keys.

    Raises:
        ValueError: The name has other characters than letters, digits and ``._-``, or more than 64.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a key's name is 1 to 64 letters, digits, dots, underscores or hyphens")
    key = secrets.token_urlsafe(32)
    return key, f"{name} {hashlib.sha256(key.encode()).hexdigest()}"


def _entries(file: Path | None) -> list[_Entry]:
    if file is None:
        return []
    lines = [line.partition("#")[0].strip() for line in file.read_text("utf-8", errors="replace").splitlines()]
    return [_entry(line.partition(" "), f"{file}, line {number}") for number, line in enumerate(lines, 1) if line]


def _entry(parts: tuple[str, str, str], place: str) -> _Entry:
    name, digest = parts[0].strip(), parts[2].strip().lower()
    if not _NAME.fullmatch(name) or not _SHA256.fullmatch(digest):
        # The message omits the text of the entry, which may be a key.
        raise ValueError(f"{place}: not a name and a SHA-256 in hexadecimal; `smart-iqa keys make NAME` writes both")
    return _Entry(name, digest)


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    """Modification time, size and inode of the file, to detect changes; None if there is no file."""
    try:
        found = os.stat(file) if file is not None else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None
