"""``smart-iqa score-bulk --ray`` on a cluster of several nodes, some of which are lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cli.bulk import job as jobs
from cli.bulk import listing
from cli.bulk.local import Here
from cli.bulk.rows import COLUMNS
from cli.bulk.stores import Store
from model import images
from model.contract import Contract, Scale
from model.scorer import Scorer
from tests.cli.test_archives import write_tar
from tests.conftest import encode, photo, save_random
from tests.e2e.ray.conftest import cluster_of

PICTURES = 10_000
CONTENTS = 300
DEADLINE = 300.0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that looks at one crop of 32 pixels."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    scale = Scale(dataset="made-up", min=1.0, max=5.0)
    save_random(folder, Contract(crops=1, crop_size=32, width=64, height=64, scale=scale))
    return folder


@pytest.fixture(scope="module")
def contents() -> list[bytes]:
    """Small pictures, of which one in fifty is cut off."""
    made = [encode(photo(40 + place % 9, 36 + place % 5, place)) for place in range(CONTENTS)]
    return [data[: len(data) // 2] if place % 50 == 7 else data for place, data in enumerate(made)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> Path:
    """10,000 names for them, in folders of a thousand."""
    folder = tmp_path_factory.mktemp("photos")
    files = [folder / f"{place}.bin" for place in range(CONTENTS)]
    for file, data in zip(files, contents, strict=True):
        file.write_bytes(data)
    for place in range(PICTURES):
        name = folder / f"{place // 1000}" / f"{place:05}.jpg"
        name.parent.mkdir(exist_ok=True)
        os.link(files[place % CONTENTS], name)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with cluster_of({"num_cpus": 1}, {"num_cpus": 1}, {"num_cpus": 1}) as made:
        yield made


@pytest.fixture
def bulk(cluster: Any, tiny: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts the command against the cluster."""

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", "-c", "from cli.main import main; main()", "score-bulk"]
        command += [*map(str, arguments), "--checkpoint", str(tiny), "--ray", "--address", cluster.address]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    return start


def wait_for_files(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE
    while len(list(folder.glob("*.parquet"))) < count:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.parquet")}


def test_ten_thousand_pictures_while_a_node_is_lost(
    bulk: Callable[..., subprocess.Popen[str]],
    cluster: Any,
    tiny: Path,
    photos: Path,
    contents: list[bytes],
    tmp_path: Path,
) -> None:
    """Each has its row, once, with what ``Scorer`` says of it."""
    out = tmp_path / "out"
    running = bulk(photos, out, "--unit", "500")
    wait_for_files(out, 4, running)
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    _, told = running.communicate(timeout=DEADLINE)
    assert running.returncode == 1, told
    assert "10,000 pictures are in" in told
    scorer = Scorer.load(tiny, device="cpu", precision="fp32")
    expected = []
    for data, (_, score) in zip(contents, scorer.score_many(contents), strict=True):
        if isinstance(score, Exception):
            assert isinstance(score, images.TruncatedImage)
            expected.append(dict.fromkeys(COLUMNS) | {"error": str(score)})
        else:
            flat = {**score.to_dict(), **score.to_dict()["image"], "error": None}
            flat["stage_weights"] = list(score.stage_weights or ())
            expected.append({name: flat.get(name) for name in COLUMNS})
        assert len(data) < 10_000
    found = pq.read_table(out).to_pylist()
    assert len(found) == PICTURES
    for place, row in enumerate(found):
        assert row == {**expected[place % CONTENTS], "path": str(photos / f"{place // 1000}" / f"{place:05}.jpg")}
    assert len({row["score"] for row in found}) > CONTENTS // 2


def test_a_killed_driver_goes_on(
    bulk: Callable[..., subprocess.Popen[str]], tiny: Path, photos: Path, contents: list[bytes], tmp_path: Path
) -> None:
    """The files are those of a run without Ray that nothing has interrupted, to the byte. Archives are among the inputs."""
    write_tar(tmp_path / "part.tar", {f"{place:03}.jpg": data for place, data in enumerate(contents)})
    write_tar(tmp_path / "whole.tgz", {f"{place:03}.jpg": data for place, data in enumerate(contents)}, "gz")
    inputs = [str(photos / "3"), str(photos / "8"), str(tmp_path / "part.tar"), str(tmp_path / "whole.tgz")]
    out = tmp_path / "out"
    arguments = (*inputs, out, "--unit", "128")
    first = bulk(*arguments)
    wait_for_files(out, 3, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    there = len(files(out))
    assert 3 <= there < 20
    assert not (out / "_SUCCESS").exists()
    second = bulk(*arguments)
    _, told = second.communicate(timeout=DEADLINE)
    assert second.returncode == 1, told
    assert f"{there} of 20 units with" in told
    scorer = Scorer.load(tiny, device="cpu", precision="fp32")
    alone = jobs.begin(Store(str(tmp_path / "alone")), {"inputs": inputs}, listing.units(inputs, 128))
    for number, table in Here(scorer, None).tables(alone, range(alone.units), lambda *_: None):
        alone.write(number, table)
    assert files(out) == files(tmp_path / "alone")


def test_a_driver_that_is_stopped_says_how_to_go_on(
    bulk: Callable[..., subprocess.Popen[str]], photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    running = bulk(photos / "0", out, "--unit", "100")
    wait_for_files(out, 1, running)
    running.terminate()
    _, told = running.communicate(timeout=DEADLINE)
    assert running.returncode == 143, told
    assert "the same command goes on from there" in told


@pytest.mark.parametrize("crops", ["2", "auto"])
def test_decoding_and_engines_apart_give_the_same_rows(
    crops: str, cluster: Any, photos: Path, contents: list[bytes], sixteen: Path, tmp_path: Path
) -> None:
    """As beside GPUs; here engines have no core of their own, and share the decoders'."""


def test_what_is_wrong_is_told_in_a_sentence(
    bulk: Callable[..., subprocess.Popen[str]], photos: Path, tmp_path: Path
) -> None:
    for options, words in {
        ("--gpus", "1"): "error: no node has 1 GPUs for an engine",
        ("--device", "cuda", "--gpus", "0"): "error: --device cuda and --gpus 0 contradict each other",
    }.items():
        running = bulk(photos / "0", tmp_path / "out", *options)
        _, told = running.communicate(timeout=DEADLINE)
        assert running.returncode == 2, told
        assert words in told
        assert "Traceback" not in told
