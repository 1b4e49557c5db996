"""The wheel: one package with all that the service needs, which works beside anybody's ``model.py``."""

import ast
import email
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import httpx2
import pytest

from hatch_build import rewritten
from model.scorer import Scorer
from tests.conftest import EXAMPLES, ROOT, encode, photo
from tests.e2e.conftest import running
from tests.training.conftest import RECIPE
from tests.training.layouts import blurred
from training import recipe as recipes

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOLDERS = ("app", "cli", "model", "training")
SOURCES = {file.relative_to(ROOT).as_posix(): file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")}
ALL_MODULES = """
import pkgutil, sys
import smart_iqa
def fail(name): raise
for module in pkgutil.walk_packages(smart_iqa.__path__, "smart_iqa.", fail):
    __import__(module.name)
ours = ("app", "cli", "model", "training", "smart_iqa")
print(*sorted(name for name in sys.modules if name.partition(".")[0] in ours))
"""
BESIDE_THEIRS = """
import sys
import app, cli, model, training
from smart_iqa import QualityScore, Scorer
import smart_iqa.app.settings, smart_iqa.model.score
assert {app.theirs, cli.theirs, model.theirs, training.theirs} == {True}
assert QualityScore is smart_iqa.model.score.QualityScore
print(Scorer.load(device="cpu", precision="fp32").score(sys.argv[1]).score)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as ``make wheel`` does, but with the tools that are here."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(contents: dict[str, bytes]) -> Message:
    (name,) = (name for name in contents if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(contents[name])


def environment(folder: Path, *what: str) -> Path:
    """Make a virtual environment with the libraries of this one, but not its smart-iqa; returns its ``bin``."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    bin_ = folder / "bin"
    # The folders in such a file are searched, but what .pth files they hold, such as this repository's, is not read.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--no-build-isolation", "--ignore-installed")
    pip = [sys.executable, "-m", "pip", "--python", str(bin_ / "python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *options, *what], check=True, timeout=120)
    return bin_


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment in which the wheel is installed."""
    return environment(tmp_path_factory.mktemp("installed"), str(wheel))


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a user whose modules are called as ours; it is on the path too."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in FOLDERS:
        (folder / f"{name}.py").write_text("theirs = True\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def run(program: Path, *arguments: object) -> str:
    line = [str(program), *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_what_the_repository_does(contents: dict[str, bytes]) -> None:
    held = {
        f"smart_iqa/{file.relative_to(ROOT).as_posix()}"
        for folder in (*FOLDERS, "checkpoints/default")
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and file.suffix != ".pyc" and not file.name.startswith(".")
    }
    held |= {"smart_iqa/__init__.py", "smart_iqa/py.typed"}
    assert {name for name in contents if ".dist-info/" not in name} == held
    # What would be missed only when it is asked for.
    assert "smart_iqa/checkpoints/default/model.safetensors" in held
    assert "smart_iqa/training/recipes/smart-mobile-biq2021.toml" in held
    assert {"smart_iqa/app/py.typed", "smart_iqa/model/py.typed", "smart_iqa/training/py.typed"} <= held


def test_its_modules_are_those_of_the_repository_but_for_their_imports(contents: dict[str, bytes]) -> None:
    assert len(SOURCES) > 200
    for name, file in SOURCES.items():
        text = contents[f"smart_iqa/{name}"]
        imported = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
        assert imported.isdisjoint(FOLDERS), name
        again = text.replace(b"from smart_iqa.", b"from ").replace(b"from smart_iqa import", b"import")
        assert again == file.read_bytes(), name


@pytest.mark.parametrize(
    "line", ["import model.score", "import model as ours, app", "import numpy, model", "from  model import score"]
)
def test_an_import_that_would_not_be_rewritten_ends_the_build(line: str) -> None:
    with pytest.raises(ValueError, match=r"app/new\.py:2: this import cannot be rewritten"):
        rewritten(f"import os\n{line}\n".encode(), "app/new.py")


def test_what_else_a_module_says_is_not_rewritten() -> None:
    source = '''"""Not this:
from model import Scorer
"""
from model.score import (  # é
    QualityScore,
)
from models import model
if True: import training as ours
from . import model
'''.encode()
    lines = rewritten(source, "a.py").decode().splitlines()
    assert lines == [
        '"""Not this:', "from model import Scorer", '"""', "from smart_iqa.model.score import (  # é",
        "    QualityScore,", ")", "from models import model", "if True: from smart_iqa import training as ours",
        "from . import model",
    ]  # fmt: skip


def test_no_module_is_named_in_a_string() -> None:
    """Imports are rewritten, strings are not: a module says ``__name__`` or ``__package__`` instead."""
    for name, file in SOURCES.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = re.fullmatch(r"((?:app|cli|model|training)(?:\.\w+)+)(?::\w+)?", node.value)
                path = named and named[1].replace(".", "/")
                assert not path or {f"{path}.py", f"{path}/__init__.py"}.isdisjoint(SOURCES), f"{name}: {node.value}"


def test_the_metadata(metadata: Message, contents: dict[str, bytes]) -> None:
    assert metadata["Name"] == PROJECT["name"]
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata["License-Expression"] == "MIT"
    extras = metadata.get_all("Provides-Extra") or []
    assert set(extras) == set(PROJECT["optional-dependencies"]) >= {"train", "onnx", "otel", "docs"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in contents)


@pytest.mark.usefixtures("theirs")
def test_every_module_can_be_imported(installed: Path) -> None:
    imported = run(installed / "python", "-W", "ignore", "-c", ALL_MODULES).split()
    assert {name.partition(".")[0] for name in imported} == {"smart_iqa"}
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in SOURCES}
    assert set(imported) == {"smart_iqa", *(f"smart_iqa.{module}" for module in modules)}


def test_it_scores_and_tells_its_version(installed: Path, theirs: Path) -> None:
    (theirs / "photo.jpg").write_bytes(encode(photo()))
    expected = Scorer.load(device="cpu", precision="fp32").score(theirs / "photo.jpg")
    options = ("-f", "jsonl", "--device", "cpu", "--precision", "fp32")
    scored = run(installed / "smart-iqa", "score", "photo.jpg", *options)
    assert json.loads(scored)["score"] == expected.score
    assert float(run(installed / "python", "-c", BESIDE_THEIRS, "photo.jpg")) == expected.score
    assert run(installed / "smart-iqa", "--version").splitlines()[0] == f"smart-iqa {PROJECT['version']}"


def test_it_serves(installed: Path, theirs: Path, tmp_path: Path) -> None:
    with running(tmp_path / "log", program=[str(installed / "smart-iqa")], cwd=theirs, decoder="processes") as service:
        assert 0 <= service.post(EXAMPLES[0].read_bytes()).json()["score"] <= 100
        described = httpx2.get(f"{service.url}/openapi.json").json()
        assert described["info"]["version"] == PROJECT["version"]
        assert httpx2.get(service.url).status_code == 200


def test_it_trains_with_a_process_that_decodes(installed: Path, theirs: Path) -> None:
    blurred(theirs / "photos")
    (theirs / "recipe.toml").write_text(recipes.dump(RECIPE))
    options = ("--root", "photos/labels.csv", "--init", "random", "--decoders", 1, "--out", "run")
    run(installed / "smart-iqa", "train", "recipe.toml", *options)
    assert (theirs / "run" / "checkpoint" / "model.safetensors").exists()


def test_in_a_clone_a_module_has_both_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    commands = environment(tmp_path / "editable", "--editable", str(ROOT))
    monkeypatch.chdir(tmp_path)
    both = """
import importlib.util, sys
import smart_iqa.model.score, smart_iqa.app.settings as settings
from smart_iqa import QualityScore, cli
assert 'torch' not in sys.modules
assert importlib.util.find_spec('smart_iqa.nothing') is None
import app.settings, cli as ours, model.score
from smart_iqa.training import splits
assert splits.__name__ == 'training.splits'
assert (smart_iqa.model.score, settings, cli) == (model.score, app.settings, ours)
assert QualityScore is model.QualityScore is smart_iqa.model.QualityScore
"""
    run(commands / "python", "-c", both)
    assert run(commands / "smart-iqa", "--version").splitlines()[0] == f"smart-iqa {PROJECT['version']}"


def test_in_a_clone_their_modules_are_told_from_ours(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another clone may be the one that is installed here: this one comes before it.
    monkeypatch.setenv("PYTHONPATH", f"{theirs}{os.pathsep}{ROOT}")
    line = [sys.executable, "-c", "from smart_iqa import Scorer"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {theirs / 'model.py'} is found before {ROOT / 'model'} of this clone"), last
