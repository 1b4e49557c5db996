"""Files of data sets, found whatever the case of their names."""

from collections.abc import Callable
from pathlib import Path


class Folder:
    """A folder below which files are looked up by relative path.

    Data sets were made on systems that do not tell ``I01.BMP`` from ``i01.bmp``, and their lists mix both.

    Args:
        root: The folder; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[Path, dict[str, Path]] = {}

    def find(self, name: str) -> Path:
        """The file at a relative path, in any case of letters; if there is none, the path itself."""
        path = self.root
        for part in name.split("/"):
            exact = path / part
            path = exact if exact.exists() else self._children(path).get(part.lower(), exact)
        return path

    def names(self) -> list[str]:
        """File names directly in the folder, sorted."""
        return sorted(path.name for path in self._children(self.root).values())

    def _children(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listed:
            children = folder.iterdir() if folder.is_dir() else ()
            self._listed[folder] = {path.name.lower(): path for path in children}
        return self._listed[folder]


def first_folder(root: Path, *names: str) -> Path:
    """The first of some sub-folders that exists, in any case of letters, or the first name where none does."""
    folder = Folder(root)
    return next((found for name in names if (found := folder.find(name)).is_dir()), root / names[0])


def any_file(*names: str) -> Callable[[Path], bool]:
    """A function that tells whether a folder holds one of these files."""
    return lambda root: any(Folder(root).find(name).is_file() for name in names)
