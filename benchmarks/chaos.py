"""Chaos test of the service: ``make chaos``, or ``python -m benchmarks.chaos --seconds 60``.

A real service process with an engine that fails now and then gets three times what it can do, from good, repeating,
bulk, broken, leaving and slow clients mixed. Its checkpoint is exchanged meanwhile, and half-way SIGTERM ends it
and another process takes its place.

Every answer is compared with the offline scorer's for the checkpoint that it names. At the end nothing may be lost or
wrong, each 5xx must be one of an injected fault or of the drain, memory and file descriptors must be back, and one more
request must succeed. The exit status is 1 otherwise. It prints a report and writes ``benchmarks/results/chaos.json``.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import torch

from benchmarks.chaos_clients import CROPS, KINDS, Clients
from benchmarks.measure import resident_megabytes
from benchmarks.tally import Tally, quantiles
from model import checkpoint, golden
from model.options import DEFAULT_CHECKPOINT
from model.scorer import Scorer
from tests.conftest import ROOT, encode, photo
from tests.e2e.conftest import free_port

RESULTS = Path(__file__).parent / "results" / "chaos.json"
SETTLE_SECONDS = 12.0
"""Longer than the service bears with a slow client."""
ADMIN_KEY = "chaos"
DRAIN_SECONDS = 4.0
COMING_SECONDS = 1.0
"""For how long clients still come to a service that drains."""


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--load", type=float, default=3.0, help="times what the service can do")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(Chaos(Path(folder)).run(arguments.seconds, arguments.load))
    print(json.dumps(report, indent=2))
    RESULTS.write_text(json.dumps({"cores": os.cpu_count(), "torch": torch.__version__, **report}, indent=2) + "\n")
    return 0 if all(report["passed"].values()) else 1


class Chaos:
    """One service process, its checkpoints and its clients.

    Args:
        folder: A temporary one.
        checkpoint_folder: A checkpoint of SMART-IQA.
        pictures: How many pictures the clients send.
        queue_crops: Bound on the crops that wait in the service.
        deadline: Seconds that the service has for a request, and that it bears with a slow upload.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint_folder: Path = DEFAULT_CHECKPOINT,
        *,
        pictures: int = 24,
        queue_crops: int = 256,
        deadline: int = 30,
    ) -> None:
        self.folder = folder
        self.checkpoint_folder = checkpoint_folder
        self.queue_crops = queue_crops
        self.deadline = deadline
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.served = folder / "served"
        self.variants = [folder / "first", folder / "second"]
        self.chance = random.Random(0)
        self.sizes = [self.chance.randrange(260, 1400) for _ in range(pictures)]
        self.pictures = [encode(photo(size, 900, seed=size)) for size in self.sizes]
        self.expected: dict[tuple[str, int], float] = {}
        self.clients = Clients(self.port, self.pictures, self.expected, self.chance)
        self.exchanging = asyncio.Lock()
        self.process: asyncio.subprocess.Process
        self.ended: list[int] = []
        self.away = 0.0
        self.most = 0.0

    def prepare(self) -> None:
        """Make two checkpoints of one name, and find out what each picture scores with them."""
        shutil.copytree(self.checkpoint_folder, self.variants[0])
        loaded = checkpoint.load(self.checkpoint_folder)
        with torch.no_grad():
            loaded.network.hyper.biases[-1].bias.add_(0.05)  # type: ignore[union-attr,index]
        about = {"name": loaded.config.name, "contract": loaded.contract, "card": "# Another one\n"}
        checkpoint.save(self.variants[1], loaded.network, **about)  # type: ignore[arg-type]
        golden.write(Scorer.load(self.variants[1], device="cpu", precision="fp32"))
        for variant in self.variants:
            scorer = Scorer.load(variant, device="cpu")
            for place, picture in enumerate(self.pictures):
                self.expected[scorer.model.digest, place] = scorer.score(picture, CROPS).score
        shutil.copytree(self.variants[0], self.served)

    async def run(self, seconds: float, load: float) -> dict[str, Any]:
        """Go through all phases; figures, and what passed."""
        self.prepare()
        await self.start()
        try:
            capacity = await self.measure_capacity(min(20.0, seconds / 4))
            # An exchange holds two checkpoints for a while: that is part of what the service needs, not a leak.
            await asyncio.gather(self.measure_capacity(min(10.0, seconds / 2)), self.exchange_twice())
            before = self.state()
            at_capacity = max(self.most, before[0])
            self.clients.tally, self.most = Tally(), 0.0
            started = time.monotonic()
            done, hanging = await asyncio.wait(await self.fire(capacity * load, seconds), timeout=150)
            self.clients.tally.lost += [f"no answer: {task}" for task in hanging]
            for task in done:
                task.result()
            duration = time.monotonic() - started - self.away
            await asyncio.sleep(SETTLE_SECONDS)
            after = self.state()
            one_more = await self.clients.score("good", 0) == 200
            metrics = (await self.clients.http.get(f"{self.url}/metrics")).text
            await self.terminate()
        finally:
            if self.process.returncode is None:
                self.process.kill()
            await self.clients.http.aclose()
        tally = self.clients.tally
        scored = sum(map(len, tally.seconds.values()))
        goodput = scored / duration / capacity
        return {
            "seconds": round(duration, 1),
            "capacity_per_s": round(capacity, 2),
            "offered_per_s": round(capacity * load, 2),
            "goodput_of_capacity": round(goodput, 3),
            "outcomes": dict(sorted(tally.statuses.items())),
            "seconds_to_score": {kind: quantiles(values) for kind, values in sorted(tally.seconds.items())},
            "seconds_to_429": quantiles(tally.shed),
            "seconds_to_429_in_the_service": {
                route: quantiles(values) for route, values in sorted(self.shed_by_log().items())
            },
            "resident_mb": {"at_capacity": round(at_capacity), "most": round(self.most), "after": after[0]},
            "descriptors": {"before": before[1], "after": after[1]},
            "exit_statuses": self.ended,
            "lost": tally.lost[:10],
            "wrong": tally.wrong[:10],
            "unexplained": tally.unexplained[:10],
            "passed": {
                "none lost": not tally.lost,
                "none wrong": not tally.wrong,
                "no 5xx but of faults and drain": not tally.unexplained,
                "memory below 1.2 times that at capacity": self.most < 1.2 * at_capacity,
                "descriptors are back, but for two at most": after[1] <= before[1] + 2,
                "nothing in flight": "smartiqa_requests_in_flight 1.0" in metrics,
                "nothing waits": "smartiqa_queue_crops 0.0" in metrics,
                "one more request": one_more,
                "ended by SIGTERM alone": self.ended == [-signal.SIGTERM, -signal.SIGTERM],
            },
        }

    def state(self) -> tuple[float, int]:
        """Resident memory of the service in MB, and its open file descriptors."""
        return round(resident_megabytes(self.process.pid)), descriptors(self.process.pid)

    async def start(self) -> None:
        """Start a service and wait until it is ready."""
        hashed = hashlib.sha256(ADMIN_KEY.encode()).hexdigest()
        variables = {
            "SMARTIQA_CHECKPOINTS": str(self.served),
            "SMARTIQA_ADMIN_KEYS": f"chaos:{hashed}",
            "SMARTIQA_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "SMARTIQA_MAX_QUEUE_CROPS": str(self.queue_crops),
            "SMARTIQA_DEADLINE_SECONDS": str(self.deadline),
            "SMARTIQA_LOG_FORMAT": "json",
            # The clients need a core too: with one thread for each core the engine would wait for threads that wait.
            "SMARTIQA_THREADS": str(max((os.cpu_count() or 1) - 1, 1)),
        }
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.faulty_service", "serve", "--port", str(self.port)),
                cwd=ROOT,
                env={**os.environ, **variables},
                stderr=log,
            )
        while self.process.returncode is None:
            with suppress(httpx2.TransportError):
                if (await self.clients.http.get(f"{self.url}/health/ready")).status_code == 200:
                    return
            await asyncio.sleep(0.2)
        raise RuntimeError("the service has ended")

    async def measure_capacity(self, seconds: float) -> float:
        """Answered requests per second with sixteen clients that each wait for their answers."""
        until = time.monotonic() + seconds

        async def ask() -> None:
            while time.monotonic() < until:
                await self.clients.score("good", self.chance.randrange(len(self.pictures)))

        started = time.monotonic()
        await asyncio.gather(*(ask() for _ in range(16)))
        return self.clients.tally.statuses["good 200"] / (time.monotonic() - started)

    async def exchange_twice(self) -> None:
        """Exchange the checkpoint for the other and back, and watch memory meanwhile."""
        for place in (1, 0):
            task = asyncio.ensure_future(self.exchange(place))
            while not task.done():
                self.most = max(self.most, resident_megabytes(self.process.pid))
                await asyncio.sleep(0.05)
            await task

    async def fire(self, rate: float, seconds: float) -> list["asyncio.Task[Any]"]:
        """Send clients at random times for so long, exchange the checkpoint four times, and replace the process."""
        tasks: list[asyncio.Task[Any]] = []
        begun = time.monotonic()
        exchanges, deployed = 0, False
        while (elapsed := time.monotonic() - begun - self.away) < seconds:
            await asyncio.sleep(self.chance.expovariate(rate))
            kind = self.chance.choices(list(KINDS), list(KINDS.values()))[0]
            tasks.append(asyncio.ensure_future(self.clients.send(kind, self.chance.randrange(len(self.pictures)))))
            self.most = max(self.most, resident_megabytes(self.process.pid))
            if elapsed > (exchanges + 0.5) * seconds / 4 and exchanges < 4:
                exchanges += 1
                tasks.append(asyncio.ensure_future(self.exchange(exchanges % 2)))
            if elapsed > seconds / 2 and not deployed:
                deployed = True
                # A process that ends answers a reload with 503, which would be no fault.
                async with self.exchanging:
                    await self.deploy(tasks, rate)
        return tasks

    async def deploy(self, tasks: list["asyncio.Task[Any]"], rate: float) -> None:
        """Replace the process, as a load balancer sees it: clients keep coming until its probe has failed."""
        self.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + COMING_SECONDS
        while time.monotonic() < until:
            await asyncio.sleep(self.chance.expovariate(rate))
            tasks.append(asyncio.ensure_future(self.clients.score("good", self.chance.randrange(len(self.pictures)))))
        left = time.monotonic()
        self.ended.append(await self.process.wait())
        await self.start()
        self.away = time.monotonic() - left

    async def exchange(self, place: int) -> None:
        """Put another checkpoint into the folder and have it loaded, after the exchange before has ended."""
        async with self.exchanging:
            staging = self.folder / "staging"
            shutil.copytree(self.variants[place], staging)
            checkpoint.replace(staging, self.served)
            answer = await self.clients.http.post(
                f"{self.url}/admin/reload", headers={"Authorization": f"Bearer {ADMIN_KEY}"}
            )
        self.clients.tally.statuses[f"reload {answer.status_code}"] += 1
        if answer.status_code != 200:
            self.clients.tally.unexplained.append(f"reload: {answer.status_code} {answer.text[:200]}")

    def shed_by_log(self) -> dict[str, list[float]]:
        """Seconds until a 429 by route, from the service's log: the clients here compete with it for the cores."""
        lines = [json.loads(line) for line in (self.folder / "log").read_text().splitlines() if line.startswith("{")]
        seconds: dict[str, list[float]] = {}
        for line in lines:
            if line.get("status") == 429:
                seconds.setdefault(line["route"], []).append(line["ms"] / 1000)
        return seconds

    async def terminate(self) -> None:
        """Send SIGTERM while requests are under way; each of them is answered, and the process ends by itself."""
        tasks = [asyncio.ensure_future(self.clients.score("good", place % len(self.pictures))) for place in range(16)]
        await asyncio.sleep(0.3)
        self.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*tasks)
        self.ended.append(await asyncio.wait_for(self.process.wait(), 60))


def descriptors(pid: int) -> int:
    """Open file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


if __name__ == "__main__":
    sys.exit(main())
