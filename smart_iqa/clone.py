"""In a clone, the names that an installation has: ``smart_iqa.model.score`` is the module ``model.score``.

It is the same module by both names, so a class is one class. A wheel is without this module.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("app", "cli", "model", "training")


class _Names(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        package, _, inner = fullname.partition(".")
        known = package == "smart_iqa" and inner.partition(".")[0] in FOLDERS
        return ModuleSpec(fullname, self) if known else None

    def exec_module(self, module: ModuleType) -> None:
        inner = module.__name__.removeprefix("smart_iqa.")
        real = import_module(inner)
        file = Path(real.__file__ or "")
        if not file.resolve().is_relative_to(ROOT):
            raise ImportError(
                f"{file} is found before {ROOT / inner} of this clone of smart-iqa; rename it, or install smart-iqa "
                "as a package (docs/install.md), which has one name alone"
            )
        # What is imported is what stands here afterwards.
        sys.modules[module.__name__] = real


def give_names() -> None:
    """Let ``smart_iqa.NAME`` be imported for each of the clone's packages."""
    # First, or a package's own path would find its modules a second time.
    sys.meta_path.insert(0, _Names())
