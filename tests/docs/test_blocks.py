"""Every block of code in README and docs is run, or checked where that would cost too much."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageFilter
from typer.exceptions import TyperException

from tests import commands
from tests.conftest import ROOT, encode, photo
from tests.docs import blocks, unrun
from tests.docs.blocks import Block
from tests.e2e.conftest import Service, running
from tests.training.layouts import put, write_csv

ALL = {page: blocks.read(page) for page in blocks.PAGES}
RUN = [page for page, found in ALL.items() if any(b.language in ("bash", "python") and not b.not_run for b in found)]
NOT_RUN = [block for found in ALL.values() for block in found if block.not_run]
STAYS = "the service stays up"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("asked") / "log", device="cpu") as service:
        yield service


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """What a clone has, and what the pages speak of: photos, their table, a checkpoint in a run folder."""
    text = request.getfixturevalue("page").read_text(encoding="utf-8")
    here = tmp_path / "clone"
    here.mkdir()
    for file in ("README.md", "constraints.txt", "photo.jpg", "one.jpg", "two.jpg", "three.jpg"):
        put(here / file, (ROOT / file).read_bytes() if (ROOT / file).is_file() else encode(photo()))
    shutil.copytree(ROOT / "examples", here / "examples")
    shutil.copytree(ROOT / "checkpoints", here / "checkpoints")
    shutil.copytree(ROOT / "checkpoints" / "default", here / "runs" / "lite" / "checkpoint")
    (here / ".venv" / "bin").mkdir(parents=True)
    (here / ".venv" / "bin" / "smart-iqa").symlink_to(commands.folder() / "smart-iqa")
    rows = []
    for index in range(12 if "labels.csv" in text else 4):
        name = {0: "beach.jpg", 1: "street/night.jpg"}.get(index, f"{index}.jpg")
        blurred = photo(seed=index).filter(ImageFilter.GaussianBlur(index % 4))
        put(here / "photos" / name, encode(blurred))
        rows.append((name, round(5 - index % 4 - 0.01 * index, 2)))
    write_csv(here / "photos" / "labels.csv", ("path", "mos"), rows)
    return here


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page: Path, folder: Path, asked: Service, tmp_path: Path) -> None:
    port, said = asked.port, ""
    path = f"{commands.folder()}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path)}
    with ExitStack() as services:
        for block in ALL[page]:
            if block.language == "json" and block.follows and said:
                _compare(block, json.loads(block.text), json.loads(said))
            if block.language not in ("bash", "python") or block.not_run:
                continue
            if block.run_with == STAYS:
                service = services.enter_context(_serve(block, folder, tmp_path / f"{block.line}.log"))
                port = service.port
                continue
            text = block.text.replace("localhost:8000", f"127.0.0.1:{port}")
            if block.run_with:
                name = block.run_with.partition("=")[0]
                text, changes = re.subn(rf"\b{name}=\S+", block.run_with, text)
                assert changes == 1, f"{block}: {name}= is not in it"
            done = _run(block, text, folder, environment)
            assert done.returncode == 0, f"{block}: exit status {done.returncode}\n{text}\n{done.stderr[-3000:]}"
            said = done.stdout if "curl" in text else ""


def _run(block: Block, text: str, folder: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    if block.language == "python":
        (folder / "block.py").write_text(text, encoding="utf-8")
        text = "python block.py"
    script = f'set -euo pipefail\ncurl() {{ command curl --silent --show-error --max-time 60 "$@"; }}\n{text}'
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


def _serve(block: Block, folder: Path, log: Path) -> Any:
    words = shlex.split(block.text)
    assert words[:2] == ["smart-iqa", "serve"], str(block)
    return running(log, cwd=folder, arguments=words[2:], device="cpu")


def _compare(block: Block, shown: Any, real: Any) -> None:
    """What is shown has the fields of what came, and values of the same kind; a score is that of the same model."""
    assert _shape(shown) == _shape(real), str(block)
    if "score" in shown:
        assert shown["model"] == real["model"], f"{block}: the checkpoint is another one now"
        assert shown["score"] == pytest.approx(real["score"], abs=0.05), str(block)
    if "code" in shown:
        assert {**shown, "request_id": ""} == {**real, "request_id": ""}, str(block)


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shape(inner) for inner in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


@pytest.mark.parametrize("block", NOT_RUN, ids=str)
def test_blocks_that_are_not_run_could_be(block: Block) -> None:
    assert len(block.not_run.split()) > 1, "a reason, please"
    if block.language == "python":
        compile(block.text, str(block), "exec")
        return
    found = list(unrun.commands(block.text))
    assert found
    for words in found:
        unrun.check(words)


@pytest.mark.parametrize("page", blocks.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_say_what_they_are(page: Path) -> None:
    for block in ALL[page]:
        assert block.language in blocks.LANGUAGES, str(block)
        assert block.language in ("bash", "python") or not (block.not_run or block.run_with), str(block)
        if block.language == "json":
            json.loads(block.text)
        # Commands that hide in other blocks would not be tried.
        if block.language == "text":
            assert not re.search(r"^\s*\$? ?(\.venv/bin/)?(smart-iqa|curl|make|pip) ", block.text, re.MULTILINE), str(
                block
            )


def test_there_is_something_to_run() -> None:
    """So that nothing is not found: the counts are below today's, and far above nothing."""
    run = [block for found in ALL.values() for block in found if not block.not_run]
    assert sum(block.language == "bash" for block in run) >= 20
    assert sum(block.language == "python" for block in run) >= 10
    assert sum("curl" in block.text for block in run) >= 8
    assert sum("smart-iqa" in block.text for block in run if block.language == "bash") >= 12
    assert {"README.md", "your-own-photos.md", "command-line.md", "client.md", "api.md"} <= {page.name for page in RUN}


def test_commands_that_could_not_work_are_found() -> None:
    wrong = (
        "smart-iqa train smart-mobile-biq2021 --rot BIQ2021 --out runs",
        "smart-iqa train no-such-recipe --root BIQ2021 --out runs",
        "smart-iqa train smart-mobile-biq2021 --root BIQ2021 --out runs --set epoch=3",
        "smart-iqa sweep no-such-sweep --root BIQ2021 --out runs",
        "OMP_NUM_THREADS=1 smart-iqa benchmarks models",
        "pip install -e '.[no-such-extra]'",
        "pip install -c no-such-file .",
        "python -m benchmarks.no_such_program",
        "python -m benchmarks.engine --no-such-option",
        "docker build --build-arg NO_SUCH=1 .",
        "kubectl apply -k no/such/folder",
        "smart-iqa --no-such-option",
        "unheard-of",
    )
    for line in wrong:
        ((words),) = unrun.commands(line)
        with pytest.raises((AssertionError, TyperException, ValueError)):
            unrun.check(words)
    with pytest.raises(subprocess.CalledProcessError):
        unrun.check(["make", "no-such-target"])


def test_blocks_are_found_with_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "a\n\n<!-- not run: costs too much -->\n```bash\nls\n```\n\n```json\n{}\n```\n\nb\n\n```bash\nx\n```\n"
    )
    first, second, third = blocks.read(page)
    assert (first.line, first.language, first.text, first.not_run) == (4, "bash", "ls\n", "costs too much")
    assert (second.follows, second.not_run) == (True, "")
    assert (third.follows, third.not_run) == (False, "")
