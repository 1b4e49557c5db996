"""Which package may import which, and that no import goes round in a circle.

Imports count wherever they stand: inside functions and under ``TYPE_CHECKING`` too.
"""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

TOP = {
    "model": {"model"},
    "app": {"app", "model"},
    "training": {"training", "model"},
    "cli": {"cli", "app", "model", "training"},
}
"""The four top-level packages."""
PACKAGES: dict[str, dict[str, set[str]]] = {
    "app": {
        "settings": set(),
        "observability": {"settings"},
        "batching": {"observability"},
        "decode": {"batching", "observability"},
        "models": {"batching", "observability", "settings"},
        "scoring": {"models", "decode", "batching", "observability", "settings"},
        "page": set(),
        "http": {"scoring", "models", "decode", "batching", "observability", "settings"},
        "main": {"http", "page", "scoring", "models", "observability", "settings"},
        "server": {"scoring", "batching"},
        "cluster": {"main", "http", "models", "batching", "observability", "settings"},
    },
    "model": {
        "options": set(),
        "images": set(),
        "token_shapes": set(),
        "defects": set(),
        "interval": set(),
        "scale": set(),
        "ranges": set(),
        "domain": set(),
        "files": set(),
        "grid": {"images"},
        "details": {"images"},
        "views": {"images"},
        "networks": {"token_shapes", "defects", "interval"},
        "tokens": {"token_shapes"},
        "contract": {
            *("images", "grid", "details", "views", "tokens", "token_shapes", "domain", "scale", "defects", "interval"),
        },
        "comparison": {"images", "score"},
        "picking": {"images", "defects", "score"},
        "calibration": {"images", "score"},
        "policies": {"images", "defects", "calibration", "contract", "score"},
        "picture_source": {"images", "contract"},
        "crop_rounds": {"contract", "images", "scale", "views"},
        "score": {"images", "contract", "crop_rounds", "defects", "views"},
        "checkpoint": {"contract", "networks", "ranges"},
        "inference": {"checkpoint", "contract", "networks", "options", "ranges", "views"},
        "maps": {"checkpoint", "contract", "defects", "grid", "images", "inference", "score", "views"},
        "scorer": {
            *("checkpoint", "contract", "crop_rounds", "images", "inference", "maps", "options", "picking"),
            *("picture_source", "score"),
        },
        "golden": {"checkpoint", "images", "scorer"},
    },
    "cli": {
        "console": set(),
        "signals": set(),
        "options": {"console"},
        "pictures": {"console"},
        "scoring": {"pictures", "console", "options"},
        "score": {"scoring", "pictures", "console", "options", "signals"},
        "bulk": {"scoring", "pictures", "console", "options", "signals"},
        "models": {"pictures", "console", "options"},
        "evaluate": {"scoring", "console", "options"},
        "benchmark": {"models", "scoring", "pictures", "console", "options"},
        "train": {"console", "options"},
        "sweep": {"train", "console", "options"},
        "heads": {"console", "options"},
        "datasets": {"console"},
        "figures": {"console"},
        "health": {"console"},
        "keys": {"console"},
        "policy": {"score", "console", "options"},
        "compare": {"scoring", "console", "options"},
        "calibrate": {"scoring", "console", "options"},
        "pick": {"bulk", "score", "scoring", "pictures", "console", "options", "signals"},
        "serve": {"console", "signals"},
        "main": {
            *(
                "benchmark",
                "bulk",
                "calibrate",
                "compare",
                "console",
                "datasets",
                "evaluate",
                "figures",
                "heads",
                "health",
                "keys",
                "models",
                "pick",
                "policy",
            ),
            *("score", "serve", "signals", "sweep", "train"),
        },
        "__main__": {"main", "signals"},
    },
}
"""What each part of a package, a package of its own or a module, may import of the others."""


def imports(file: Path) -> Iterator[str]:
    """Full names of the modules that a file imports from this project, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.partition(".")[0] in TOP:
                yield resolve(name)


def resolve(name: str) -> str:
    """The module that holds a name."""
    while True:
        path = ROOT.joinpath(*name.split("."))
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return name
        name = name.rpartition(".")[0]


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(file): file for top in TOP for file in sorted((ROOT / top).rglob("*.py"))}


@cache
def graph() -> dict[str, set[str]]:
    return {module: {other for other in imports(file) if other != module} for module, file in FILES.items()}


def test_top_level_packages_import_in_one_direction() -> None:
    for module, others in graph().items():
        top = module.partition(".")[0]
        assert {other.partition(".")[0] for other in others} <= TOP[top], module


@pytest.mark.parametrize("top", PACKAGES)
def test_parts_of_a_package_import_in_one_direction(top: str) -> None:
    allowed = PACKAGES[top]
    parts = {module.split(".")[1] for module in FILES if module.startswith(f"{top}.")}
    assert allowed.keys() == parts, "a part that is gone, or that nothing is said of"
    assert tuple(TopologicalSorter(allowed).static_order()), "directions that go round"
    for module, others in graph().items():
        here = module.split(".")
        if here[0] != top or len(here) < 2:
            continue
        for other in others:
            there = other.split(".")
            if there[0] == top and len(there) > 1 and there[1] != here[1]:
                assert there[1] in allowed[here[1]], f"{module} imports {other}"


def test_no_import_goes_round() -> None:
    # It raises an error that names the circle.
    assert tuple(TopologicalSorter(graph()).static_order())


def test_packages_say_what_lives_in_them() -> None:
    for module, file in FILES.items():
        if file.name == "__init__.py":
            assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), module


def test_files_stay_small() -> None:
    for file in FILES.values():
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 400, file
