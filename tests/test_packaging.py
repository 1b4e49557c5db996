"""The wheel: it holds what the service needs, and serves from a folder where the repository is not."""

import email
import json
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import httpx2
import pytest

from model.scorer import Scorer
from tests.conftest import EXAMPLES, ROOT, encode, photo
from tests.e2e.conftest import running

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# An editable installation puts the repository on the path of every process; here it has to be out of reach.
ALONE = """
import sys
from pathlib import Path
here, repository = sys.argv.pop(1), sys.argv.pop(1)
sys.path[:] = [here, *(part for part in sys.path if part and Path(part).resolve() != Path(repository))]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
import app, cli, model, training
assert all(Path(room.__file__).is_relative_to(here) for room in (app, cli, model, training))
sys.argv[0] = "smart-iqa"
from cli.main import main
main()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as ``make wheel`` does, but with the tools that are here."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: set[str]) -> Message:
    (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(wheel)]
    subprocess.run(command, check=True, timeout=120)
    return folder


def command(installed: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-c", ALONE, str(installed), str(ROOT), *map(str, arguments)]


def smart_iqa(installed: Path, cwd: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    line = command(installed, *arguments)
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_the_wheel_holds_what_the_repository_does(names: set[str]) -> None:
    held = {
        file.relative_to(ROOT).as_posix()
        for folder in ("app", "cli", "model", "training", "checkpoints/default")
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and file.suffix != ".pyc" and not file.name.startswith(".")
    }
    assert {name for name in names if ".dist-info/" not in name} == held
    # What would be missed only when it is asked for.
    assert "checkpoints/default/model.safetensors" in held
    assert "training/recipes/smart-mobile-biq2021.toml" in held
    assert {"app/py.typed", "model/py.typed", "training/py.typed"} <= held


def test_the_metadata(metadata: Message, names: set[str]) -> None:
    assert metadata["Name"] == PROJECT["name"]
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata["License-Expression"] == "MIT"
    extras = metadata.get_all("Provides-Extra") or []
    assert set(extras) == set(PROJECT["optional-dependencies"]) >= {"train", "onnx", "otel", "docs"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_it_scores_and_tells_its_version(installed: Path, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(encode(photo()))
    options = ("-f", "jsonl", "--device", "cpu", "--precision", "fp32")
    scored = smart_iqa(installed, tmp_path, "score", file, *options)
    assert scored.returncode == 0, scored.stderr
    expected = Scorer.load(device="cpu", precision="fp32").score(file)
    assert json.loads(scored.stdout)["score"] == expected.score
    version = smart_iqa(installed, tmp_path, "--version")
    assert version.stdout.splitlines()[0] == f"smart-iqa {PROJECT['version']}"


def test_it_serves(installed: Path, tmp_path: Path) -> None:
    with running(tmp_path / "log", program=command(installed), cwd=tmp_path) as service:
        assert 0 <= service.post(EXAMPLES[0].read_bytes()).json()["score"] <= 100
        described = httpx2.get(f"{service.url}/openapi.json").json()
        assert described["info"]["version"] == PROJECT["version"]
