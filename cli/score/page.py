"""HTML reports: one file without scripts, whose content security policy forbids to load anything from elsewhere."""

import base64
import contextlib
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cli.console import printable
from cli.pictures import archives
from model.files import replacing

THUMBNAIL = (320, 240)
SUFFIXES = (".html", ".htm")
Thumbnails = Mapping[str, tuple[str, tuple[int, int]]]
"""JPEGs as Base64, with width and height, by the names of pictures."""
_FOLDER = Path(__file__).parent


def check(file: Path) -> None:
    """Check, before anything is scored, that the report can be written.

    Raises:
        ValueError: Its suffix is not that of HTML (it could be a photo by mistake), or its folder does not exist.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{file}: the name of the report must end in {' or '.join(SUFFIXES)}")
    if not file.parent.is_dir():
        raise ValueError(f"{file.parent}: no such folder")


def write(file: Path, template: Path, **values: Any) -> None:
    """Write a report.

    Args:
        file: The file, replaced if it exists.
        template: What it looks like: a template that extends ``page.html``.
        values: What is in it.
    """
    import jinja2

    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _FOLDER]),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["printable"] = printable
    made = environment.get_template(template.name).stream(style=style, style_hash=digest, **values)
    with replacing(file) as fresh:
        made.dump(str(fresh), encoding="utf-8")


def thumbnails(names: set[str]) -> Thumbnails:
    """Thumbnails of pictures; those that are no longer there have none."""
    from model.images import ImageError

    found = {}
    for name, data in contents(names):
        with contextlib.suppress(ImageError):
            found[name] = _thumbnail(data)
    return found


def contents(names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Read pictures by their names; each archive is read once, from its beginning."""
    by_archive: dict[str, set[str]] = {}
    for name in names:
        archive = None if Path(name).is_file() else archives.containing_archive(name)
        if archive is not None:
            by_archive.setdefault(archive, set()).add(name)
            continue
        with contextlib.suppress(OSError):
            yield name, Path(name).read_bytes()
    for archive, wanted in by_archive.items():
        for name, content in archives.members(archive):
            if name in wanted and not isinstance(content, (Path, Exception)):
                with contextlib.suppress(OSError, archives.ArchiveError):
                    yield name, content()


def _thumbnail(data: bytes) -> tuple[str, tuple[int, int]]:
    from model import images

    picture = images.decode(data, enough=lambda width, height: THUMBNAIL if width >= height else THUMBNAIL[::-1])
    small = picture.image.copy()
    small.thumbnail(THUMBNAIL)
    small.info.clear()
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=75, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode(), small.size
