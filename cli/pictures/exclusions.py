"""Which files and folders are left out, and what was not looked at in the end, with the reason.

One entry that cannot be looked at never costs the rest: it is noted here, and named when the command ends.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import PurePath
from typing import Any

from cli.console import notes, printable

DEFAULTS = (
    *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", ".@__thumb", ".snapshot*"),  # NAS
    *(".thumbnails", ".thumbs", ".trashed-*", ".pending-*"),  # phones
    *("$RECYCLE.BIN", "System Volume Information", "._*", "__MACOSX", ".AppleDouble", ".Spotlight-V100"),
    *(".Trash*", "lost+found", ".stversions", ".dtrash", "*.lrdata"),
)
"""Names that are left out unless the defaults are turned off: thumbnails, waste and snapshots of NAS, phones, desktops
and photo programs. Photos in them are copies, or were thrown away."""
NAMED = 20
"""Entries that are named at the end; the others are only counted."""


@dataclass
class NotLookedAt:
    """What a command has found and not looked at.

    Attributes:
        reasons: How many entries there are for each reason.
        named: Name and reason of the first ones.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    named: list[tuple[str, str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many entries there are."""
        return self.reasons.total()

    def add(self, name: str, reason: str) -> None:
        """Note an entry."""
        self.reasons[reason] += 1
        if len(self.named) < NAMED:
            self.named.append((name, reason))

    def summary(self) -> str:
        """All of them in one sentence; "" for none."""
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.most_common())
        return f"{self.count:,} not looked at: {reasons}" if self.count else ""

    def tell(self) -> None:
        """Name them on stderr, with the reasons, and count them."""
        for name, reason in self.named:
            notes.print(f"{printable(name)}: not looked at: {reason}", markup=False, soft_wrap=True)
        if self.count > len(self.named):
            notes.print(f"... and {self.count - len(self.named):,} more", markup=False)
        if self.count:
            notes.print(self.summary(), markup=False, soft_wrap=True)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for ``from_dict``."""
        return {"reasons": dict(self.reasons), "named": self.named}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "NotLookedAt":
        """From what ``to_dict`` gave."""
        return cls(Counter(dict(content["reasons"])), [(name, reason) for name, reason in content["named"]])


class Exclusions:
    """Patterns of names that are left out, whatever their case.

    Args:
        patterns: Shell patterns. One with a slash is for the end of a path, any other for a name; ``*`` does not stop
            at slashes.
        defaults: Whether ``DEFAULTS`` are left out too.
    """

    def __init__(self, patterns: Sequence[str] = (), *, defaults: bool = True) -> None:
        self._given = patterns, defaults
        self._names = _Any([pattern for pattern in patterns if "/" not in pattern])
        self._paths = _Any([f"*/{pattern.strip('/')}" for pattern in patterns if "/" in pattern.strip("/")])
        self._names.add(pattern.strip("/") for pattern in patterns if "/" in pattern and "/" not in pattern.strip("/"))
        self._defaults = _Any(DEFAULTS if defaults else ())

    def settings(self) -> dict[str, Any]:
        """The arguments, as JSON can hold them: a run goes on only with the same ones."""
        return {"exclude": list(self._given[0]), "default_excludes": self._given[1]}

    def reason(self, path: str) -> str:
        """Why an entry is left out, by its name and path; "" if it is not."""
        name = PurePath(path).name
        if self._names.match(name) or self._paths.match(f"/{path}"):
            return "left out by --exclude"
        return "left out by default (--no-default-excludes)" if self._defaults.match(name) else ""

    def reason_within(self, path: str) -> str:
        """Why a member of an archive is left out, by any folder of its path; "" if it is not."""
        parts = PurePath(path).parts
        ends = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return next((reason for end in ends if (reason := self.reason(end))), "")


class _Any:
    """Whether a text matches one of several patterns."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns: list[str] = []
        self.add(patterns)

    def add(self, patterns: Iterable[str]) -> None:
        self._patterns += patterns
        self._match = re.compile("|".join(map(translate, self._patterns)) or "(?!)", re.IGNORECASE).match

    def match(self, text: str) -> bool:
        return self._match(text) is not None
