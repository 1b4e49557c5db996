"""One direction of imports: app -> model <- training, with cli above them all."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

ALLOWED = {
    "model": {"model"},
    "app": {"app", "model"},
    "training": {"training", "model"},
    "cli": {"cli", "app", "model", "training"},
}


def imported_rooms(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} & set(ALLOWED)


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_in_one_direction(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        assert imported_rooms(file) <= ALLOWED[room], file


def test_files_stay_small() -> None:
    for room in ALLOWED:
        for file in (ROOT / room).rglob("*.py"):
            assert len(file.read_text(encoding="utf-8").splitlines()) <= 400, file
