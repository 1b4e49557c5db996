"""The map for newcomers: what it names exists, and a picture takes the way that it draws."""

import ast
import re
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import served, wait_ready
from tests.app.fakes import FakeEngine
from tests.conftest import ROOT, encode, photo

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILE = re.compile(r"(?:app|model|cli|training|deploy|tests|benchmarks|clients|docs|\.ci)/[\w./-]*")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


@pytest.mark.parametrize("text", [PAGE, CONTRIBUTING], ids=["architecture", "contributing"])
def test_every_file_exists(text: str) -> None:
    files = {part for part in code(text) if FILE.fullmatch(part)}
    assert len(files) > 3
    assert [file for file in sorted(files) if not (ROOT / file).exists()] == []
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    folder = ROOT if text is CONTRIBUTING else ROOT / "docs"
    assert [link for link in links if not (folder / link).exists()] == []


def test_every_name_exists_in_the_file_before_it() -> None:
    named = re.findall(r"`([\w/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)", PAGE)
    assert len(named) > 5
    for file, names in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        }
        defined |= {
            node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        for name in re.findall(r"`([\w.]+)`", names):
            assert set(name.split(".")) <= defined, f"{file}: {name}"


def test_packages_of_the_drawing_are_those_of_the_code() -> None:
    drawn = set(
        re.findall(r'^    (\w+)\["', PAGE.split("```mermaid")[1].split("subgraph app")[1].split("end\n")[0], re.M)
    )
    packages = {folder.name for folder in (ROOT / "app").iterdir() if (folder / "__init__.py").exists()}
    assert drawn == packages - {"observability", "page"}


@pytest.mark.parametrize("title", ["The life of a picture", "The life of a training run", "The life of a bulk job"])
def test_a_life_has_ten_hops_at_most(title: str) -> None:
    hops = re.findall(r"^\| (\d+)\. ", section(title), re.MULTILINE)
    assert hops == [str(number) for number in range(1, len(hops) + 1)]
    assert 5 <= len(hops) <= 10


def test_a_picture_takes_the_way_that_is_drawn(checkpoint_folder: Path) -> None:
    """All modules of the service in which something runs for a plain ``/score``; the connection is uvicorn's here."""
    drawn = {part for part in code(section("The life of a picture")) if re.fullmatch(r"app/.*\.py", part)}
    drawn.discard("app/http/problems.py")
    # What measures and logs it on its way is no part of it.
    assert len({part for part in drawn if not part.startswith("app/observability/")}) <= 15
    entered: set[str] = set()
    recording = threading.Event()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and recording.is_set():
            entered.add(frame.f_code.co_filename)

    threading.setprofile(note)
    try:
        with TestClient(
            create_app(Settings(), load=lambda _: {"fake": served(checkpoint_folder, FakeEngine(8))})
        ) as client:
            wait_ready(client)
            # The first one makes what is made once.
            for seed in (1, 2):
                recording.set()
                entered.clear()
                answer = client.post(
                    "/score", content=encode(photo(400, 300, seed)), headers={"Content-Type": "image/jpeg"}
                )
                recording.clear()
                assert answer.status_code == 200
    finally:
        threading.setprofile(None)
    assert sys.getprofile() is None
    ran = {str(Path(file).relative_to(ROOT)) for file in entered if Path(file).is_relative_to(ROOT / "app")}
    assert ran == drawn - {"app/http/protocol.py"}
