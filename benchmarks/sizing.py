"""Measures the cost of one picture in core seconds: the input of ``docs/scale.md``.

All are processor time, not time by the clock, as the machine may do other things as well. It prints them and
writes ``benchmarks/results/sizing.json``.

    decode    JPEG to crops, one thread; large pictures are one photo side by side, with detail to the last pixel
    engine    one crop of the default checkpoint, in full batches on one core
    actor     a call of a Ray actor on the same node, without and with the crops of a picture as its argument
    serve     a request through Ray Serve's proxy to a replica that reads the picture, and as well the call of a second
              replica with the crops; all processes of the cluster together, without the client
"""

import argparse
import http.client
import itertools
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.decode import SIZES
from benchmarks.measure import machine
from benchmarks.scaling import bound
from model.contract import Contract
from model.scorer import Scorer
from model.views import Items
from tests.conftest import EXAMPLES, encode

AT_ONCE = 16
"""Calls of Ray under way at a time: alone, one would pay for waking up all the processes that it passes."""
RESULTS = Path(__file__).parent / "results" / "sizing.json"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    arguments = parser.parse_args()
    with bound(1), multiprocessing.get_context("spawn").Pool(1) as pool:
        scoring = pool.apply(scoring_costs, (arguments.seconds,))
    report = {"machine": machine(), **scoring, "ray": ray_costs(arguments.seconds, scoring["picture_bytes"])}
    text = json.dumps(report, indent=2)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    print(text)


def scoring_costs(seconds: float) -> dict[str, Any]:
    """Decode and engine, in a process of its own on one core."""
    scorer = Scorer.load(device="cpu", precision="fp32")
    contract = scorer.checkpoint.contract
    decode, uploads = {}, {}
    for name, size in SIZES.items():
        data = encode(mosaic(*size), quality=90)
        uploads[name] = len(data)
        decode[name] = round(each(partial(crops, contract, data), time.thread_time, seconds), 3)
    crops_NHWC = crops(contract, data)
    batch = np.resize(crops_NHWC, (scorer.engine.cap, *crops_NHWC.shape[1:]))
    return {
        "contract": contract.id,
        "crops": len(crops_NHWC),
        "picture_bytes": crops_NHWC.nbytes,
        "upload_bytes": uploads,
        "decode_core_ms": decode,
        "engine_core_ms_per_crop": round(
            each(lambda: scorer.engine.run([batch]), time.process_time, seconds) / len(batch), 3
        ),
    }


def mosaic(width: int, height: int) -> Image.Image:
    """A photo side by side with itself until it is so large."""
    with Image.open(EXAMPLES[0]) as file:
        photo = file.convert("RGB")
    large = Image.new("RGB", (width, height))
    for left, top in itertools.product(range(0, width, photo.width), range(0, height, photo.height)):
        large.paste(photo, (left, top))
    return large


def crops(contract: Contract, data: bytes) -> Items:
    """The crops of a picture."""
    return contract.views(contract.decode(data)).items


def each(call: Callable[[], object], clock: Callable[[], float], seconds: float) -> float:
    """Milliseconds of a clock that a call takes, median, after three that do not count."""
    taken: list[float] = []
    until = time.monotonic() + seconds
    while len(taken) < 6 or time.monotonic() < until:
        began = clock()
        call()
        taken.append(1e3 * (clock() - began))
    return statistics.median(taken[3:])


def ray_costs(seconds: float, size: int) -> dict[str, float]:
    """Calls within Ray on one node, with an argument of so many bytes."""
    # Before Ray is imported: on a busy machine its proxy takes longer to start than it is given.
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "300"})
    import ray
    from ray import serve

    class Engine:
        def score(self, crops_NHWC: np.ndarray[Any, Any]) -> float:
            return float(crops_NHWC.size)

    class Decoder:
        def __init__(self, engine: Any) -> None:
            self._engine = engine
            self._crops = np.zeros(size, np.uint8)

        async def __call__(self, request: Any) -> float:
            await request.body()
            return float(await self._engine.score.remote(self._crops)) if "crops" in request.query_params else 0.0

    upload = os.urandom(600_000)
    with cluster():
        actor = ray.remote(Engine).remote()

        def call(argument: Any) -> None:
            ray.get([actor.score.remote(argument) for _ in range(AT_ONCE)])

        found = {
            f"actor, {name}": spent(partial(call, np.zeros(length, np.uint8)), seconds, own=True)
            for name, length in (("nothing", 0), ("crops", size))
        }
        port = free_port()
        with suppress(TimeoutError):  # after a minute, while the proxy goes on starting
            serve.start(http_options={"host": "127.0.0.1", "port": port})
        engine = serve.deployment(Engine).bind()
        serve.run(serve.deployment(Decoder).bind(engine), route_prefix="/")
        wait_for(port)
        clients = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(AT_ONCE)]

        def request(path: str, body: bytes) -> None:
            list(pool.map(partial(ask, path=path, body=body), clients))

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for name, path, body in (
                ("nothing", "/", b""),
                ("upload of 0.6 MB", "/", upload),
                ("upload and crops", "/?crops=1", upload),
            ):
                found[f"serve, {name}"] = spent(partial(request, path, body), seconds)
        for client in clients:
            client.close()
    return {f"{name}, core ms": round(ms, 2) for name, ms in found.items()}


@contextmanager
def cluster() -> Iterator[None]:
    """A cluster of this machine alone, without usage statistics, whose files are removed at the end."""
    import ray
    from ray import serve

    with tempfile.TemporaryDirectory(prefix="iqa", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            num_cpus=4,
            object_store_memory=300 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            serve.shutdown()
            ray.shutdown()


def free_port() -> int:
    """A free port, below the range of Ray's own processes."""
    for port in range(18700, 18800):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def wait_for(port: int) -> None:
    """Wait until a server listens, for five minutes at most."""
    until = time.monotonic() + 300
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def ask(connection: http.client.HTTPConnection, path: str, body: bytes) -> None:
    """Send a request and read its answer, on a new connection if the one that there is has been idle for too long."""
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
    except ConnectionError:
        connection.close()
        connection.request("POST", path, body)
        answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, text


def spent(call: Callable[[], object], seconds: float, *, own: bool = False) -> float:
    """Core milliseconds of each of the calls in this process's descendants, and in itself if asked.

    What they take while nothing is asked of them is taken off.
    """
    for _ in range(5):
        call()
    before = ticks(own)
    time.sleep(seconds)
    idle = (ticks(own) - before) / seconds
    began, before, calls = time.monotonic(), ticks(own), 0
    while (taken := time.monotonic() - began) < seconds:
        call()
        calls += AT_ONCE
    return 1e3 * max(ticks(own) - before - idle * taken, 0.0) / calls


def ticks(own: bool) -> float:
    """Processor seconds so far of the processes below this one."""
    times, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(folder.name)] = int(fields[1])
        times[int(folder.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    me = os.getpid()
    total = times[me] if own else 0.0
    for one in times:
        above = parents.get(one, 0)
        while above not in (0, me):
            above = parents.get(above, 0)
        total += times[one] if above == me and one != me else 0.0
    return total


if __name__ == "__main__":
    main()
