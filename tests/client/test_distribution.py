"""The client is a distribution of its own: it needs nothing of the house, and httpx2 alone of others."""

import ast
import sys
import tomllib

from tests.conftest import ROOT

FOLDER = ROOT / "clients" / "python"
NAME = "smart_iqa_client"


def imported(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "imports are absolute"
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_one_dependency() -> None:
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [name.partition(">=")[0] for name in project["dependencies"]] == ["httpx2"]
    sources = [file.read_text(encoding="utf-8") for file in (FOLDER / NAME).glob("*.py")]
    assert set().union(*map(imported, sources)) - sys.stdlib_module_names == {"httpx2", NAME}
    assert max(source.count("\n") for source in sources) <= 400


def test_types_and_licence_go_along() -> None:
    assert (FOLDER / NAME / "py.typed").exists()
    assert (FOLDER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
