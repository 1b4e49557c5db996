"""Log lines, as text or as one JSON object each.

The code that writes a line decides its content: the route template, never the requested URL or its query; no file name
of an upload, and nothing from a picture but its hash.
"""

import json
import logging
from datetime import UTC, datetime

from app.observability import access
from app.settings import Settings

FIELDS = (*access.FIELDS, "sha256")
"""Fields that a log line may have besides its message: those of a request, and the hash of a picture."""
_TALKATIVE = ("python_multipart",)
"""Libraries that log parts of uploads at level DEBUG; ``model/images.py`` silences Pillow."""


class JsonFormatter(logging.Formatter):
    """One object per line: time (UTC), level, logger, message, and the fields of a request where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(settings: Settings) -> None:
    """Send all log lines to stderr, in the format and from the level that the settings name."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter()
        if settings.log_format == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)
