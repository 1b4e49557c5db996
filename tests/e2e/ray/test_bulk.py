"""``smart-iqa score-bulk --ray`` on a cluster of several nodes, some of which are lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cli.bulk import job as jobs
from cli.bulk import listing
from cli.bulk.local import LocalScorer
from cli.bulk.rows import COLUMNS
from cli.bulk.stores import Store
from model.contract import Contract
from model.crop_rounds import Crops
from model.images import TruncatedImage
from model.scale import Scale
from model.scorer import Scorer
from tests import commands
from tests.cli.test_archives import write_tar
from tests.conftest import encode, photo, save_random
from tests.e2e.ray.conftest import add_node, cluster_of

PICTURES = 3000
CONTENTS = 300
DEADLINE = 600.0
"""Seconds; only for what hangs."""
NODE = {"num_cpus": 1}


def save_tiny(folder: Path, crops: int) -> Path:
    """A checkpoint that looks at crops of 32 pixels."""
    scale = Scale(dataset="made-up", min=2.4, max=2.8)
    save_random(folder, Contract(crops=crops, crop_size=32, width=64, height=64, scale=scale))
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "tiny", 1)


@pytest.fixture(scope="module")
def contents() -> list[bytes]:
    """Small pictures, of which one in fifty is cut off."""
    made = [encode(photo(40 + place % 9, 36 + place % 5, place)) for place in range(CONTENTS)]
    return [data[: len(data) // 2] if place % 50 == 7 else data for place, data in enumerate(made)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> Path:
    """Ten names for each of them, in folders of 300."""
    folder = tmp_path_factory.mktemp("photos")
    files = [folder / f"{place}.bin" for place in range(CONTENTS)]
    for file, data in zip(files, contents, strict=True):
        file.write_bytes(data)
    for place in range(PICTURES):
        name = folder / f"{place // CONTENTS}" / f"{place:05}.jpg"
        name.parent.mkdir(exist_ok=True)
        os.link(files[place % CONTENTS], name)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with cluster_of(NODE, NODE, NODE) as made:
        yield made


APART = """
from cli.bulk.cluster import ClusterScorer
from cli.main import main
ClusterScorer.__init__.__kwdefaults__["separate_decoding"] = True
main()
"""
PROCESS = (sys.executable, "-W", "ignore", "-c", "from cli.main import main; main()")
"""Instead of the command of ``tests/commands.py``, for one that gets signals."""
Bulk = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def bulk(cluster: Any, tiny: Path) -> Bulk:
    """Starts the command against the cluster."""

    def start(*arguments: object, program: Sequence[str] = (), checkpoint: Path = tiny) -> subprocess.Popen[str]:
        command = [*(program or [str(commands.folder() / "smart-iqa")]), "score-bulk", *map(str, arguments)]
        command += ["--checkpoint", str(checkpoint), "--ray", "--address", cluster.address]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    return start


def finish(running: subprocess.Popen[str], status: int) -> str:
    """What it has told by its end."""
    _, told = running.communicate(timeout=DEADLINE)
    assert running.returncode == status, told
    return told


def without_ray(tiny: Path, inputs: list[str], unit: int, crops: Crops | None, folder: Path) -> dict[str, bytes]:
    """Files of a run that nothing has interrupted."""
    job = jobs.begin(Store(str(folder)), {"inputs": inputs}, listing.units(inputs, unit))
    here = LocalScorer(Scorer.load(tiny, device="cpu", precision="fp32"), crops)
    for number, table in here.tables(job, range(job.units), lambda *_: None):
        job.write(number, table)
    return files(folder)


def wait_for_files(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE
    while len(list(folder.glob("*.parquet"))) < count:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.parquet")}


def test_thousands_of_pictures_while_a_node_is_lost(
    bulk: Bulk, cluster: Any, tiny: Path, photos: Path, contents: list[bytes], tmp_path: Path
) -> None:
    """Each has its row, once, with what ``Scorer`` says of it."""
    out = tmp_path / "out"
    running = bulk(photos, out, "--unit", "150")
    wait_for_files(out, 4, running)
    cluster.remove_node(list(cluster.worker_nodes)[-1], allow_graceful=False)
    assert "3,000 pictures are in" in finish(running, 1)
    add_node(cluster, **NODE)
    scorer = Scorer.load(tiny, device="cpu", precision="fp32")
    expected = []
    for _, score in scorer.score_many(contents):
        if isinstance(score, Exception):
            assert isinstance(score, TruncatedImage)
            expected.append(dict.fromkeys(COLUMNS) | {"error": str(score)})
        else:
            flat = {**score.to_dict(), **score.to_dict()["image"], "error": None}
            flat["stage_weights"] = list(score.stage_weights or ())
            expected.append({name: flat.get(name) for name in COLUMNS})
    found = pq.read_table(out).to_pylist()
    assert len(found) == PICTURES
    for place, row in enumerate(found):
        assert row == {**expected[place % CONTENTS], "path": str(photos / f"{place // CONTENTS}" / f"{place:05}.jpg")}
    assert len({row["score"] for row in found}) > CONTENTS // 2


def test_a_driver_that_is_killed_and_one_that_is_stopped(
    bulk: Bulk, tiny: Path, photos: Path, contents: list[bytes], tmp_path: Path
) -> None:
    """The third one's files are those of a run without Ray that nothing has interrupted, to the byte."""
    write_tar(tmp_path / "parts.tar", {f"{place:03}.jpg": data for place, data in enumerate(contents)})
    write_tar(tmp_path / "whole.tgz", {f"{place:03}.jpg": data for place, data in enumerate(contents)}, "gz")
    inputs = [str(photos / "3"), str(tmp_path / "parts.tar"), str(tmp_path / "whole.tgz"), str(photos / "8")]
    out = tmp_path / "out"
    killed = bulk(*inputs, out, "--unit", "40", program=PROCESS)
    wait_for_files(out, 2, killed)
    killed.kill()
    killed.communicate()
    there = len(files(out))
    assert not (out / "_SUCCESS").exists()
    stopped = bulk(*inputs, out, "--unit", "40", program=PROCESS)
    wait_for_files(out, there + 2, stopped)
    stopped.send_signal(signal.SIGTERM)
    told = finish(stopped, 143)
    assert f"{there} of 24 units with" in told
    there = len(files(out))
    assert f"stopped; {there} of 24 units are in {out}, and the same command goes on from there" in told
    assert not (out / "_SUCCESS").exists()
    told = finish(bulk(*inputs, out, "--unit", "40"), 1)
    assert f"{there} of 24 units with" in told
    assert "1,200 pictures are in" in told
    assert files(out) == without_ray(tiny, inputs, 40, None, tmp_path / "alone")


def test_decoding_and_engines_apart_give_the_same_files(
    bulk: Bulk, photos: Path, contents: list[bytes], tmp_path: Path
) -> None:
    """As beside GPUs; here engines have no core of their own, and share the decoders'."""
    write_tar(tmp_path / "whole.tgz", {f"{place:03}.jpg": data for place, data in enumerate(contents)}, "gz")
    inputs = [str(tmp_path / "whole.tgz"), *(str(photos / "9" / f"{place:05}.jpg") for place in range(2700, 2800))]
    checkpoint, out = save_tiny(tmp_path / "eight", 8), tmp_path / "out"
    (tmp_path / "apart.py").write_text(APART)
    program = (str(commands.folder() / "python"), str(tmp_path / "apart.py"))
    finish(bulk(*inputs, out, "--crops", "auto", program=program, checkpoint=checkpoint), 1)
    alone = without_ray(checkpoint, inputs, 1000, "auto", tmp_path / "alone")
    assert files(out) == alone
    assert len(alone) == 2
    assert len({row["crops"] for row in pq.read_table(out).to_pylist()} - {None}) > 1


def test_a_cluster_without_gpus(bulk: Bulk, photos: Path, tmp_path: Path) -> None:
    told = finish(bulk(photos / "0", tmp_path / "out", "--gpus", "1"), 2)
    assert told.splitlines()[-1] == "error: no node has 1 GPUs for an engine; --engines says how many to wait for"
