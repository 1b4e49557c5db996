"""The servers that are measured side by side: ours and two common alternatives."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, openloop
from benchmarks.measure import session_megabytes
from benchmarks.openloop import Trial
from tests.e2e.conftest import free_port

ROOT = Path(__file__).parents[1]
START_SECONDS = 180


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A way to serve the default checkpoint.

    Attributes:
        name: What the tables call it.
        command: Starts it, with ``--port`` and a port behind it.
        field: Form field of the picture.
        health: Path that answers 200 once it is ready.
    """

    name: str
    command: tuple[str, ...]
    field: str = "file"
    health: str = "/health"


OURS = Kind(name="smart-iqa", command=("-c", "from cli.main import main; main()", "serve"), health="/health/ready")
FASTAPI = Kind(name="fastapi", command=("-m", "benchmarks.peers.plain_fastapi"))


def litserve(setting: str) -> Kind:
    """LitServe with batches of at most so many pictures, for which it waits so many seconds: ``4:0.005``."""
    batch, wait = setting.split(":")
    command = ("-m", "benchmarks.peers.litserve_batching", "--batch", batch, "--wait", wait)
    return Kind(name="litserve", command=command, field="request")


class Server:
    """A running server, which may have several processes."""

    def __init__(self, kind: Kind, log: Path) -> None:
        self.kind = kind
        self.log = log
        self.port = free_port()
        # Every request is to reach the network, and the others log no line per request either.
        ours = {"SMARTIQA_CACHE_CROPS": "0", "SMARTIQA_LOG_LEVEL": "warning"}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *kind.command, "--port", str(self.port)],
                cwd=ROOT,
                env={**os.environ, **ours},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Wait until it is ready.

        Raises:
            RuntimeError: It has ended, or takes too long.
        """
        until = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < until:
            if self.answers(self.kind.health):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.kind.name} did not become ready:\n{self.log.read_text()[-2000:]}")

    def answers(self, path: str) -> bool:
        """Whether a path answers 200 now."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def score(self, picture: bytes) -> float:
        """The score that it gives a picture."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        content_type = f"multipart/form-data; boundary={load.BOUNDARY}"
        connection.request("POST", "/score", load.form(self.kind.field, picture), {"Content-Type": content_type})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return float(answer["score"])

    def saturate(
        self, picture: bytes, *, clients: int, seconds: float, path: str = "/score"
    ) -> tuple[float, list[float]]:
        """Answers per second to so many clients in flight, and all latencies in seconds."""
        return load.saturate(self.port, picture, path, self.kind.field, clients=clients, seconds=seconds)

    def attempt(self, picture: bytes, rate: float, seconds: float) -> Trial:
        """Offer a rate by a fixed pattern of arrivals."""
        due = openloop.arrivals(rate, seconds, seed=0)
        trial = openloop.judge(rate, load.offer(self.port, picture, "/score", self.kind.field, due))
        # What a failed trial has left behind is not to burden the next one.
        self.saturate(picture, clients=1, seconds=0.01)
        return trial

    @property
    def megabytes(self) -> float:
        """Resident memory of all its processes."""
        return session_megabytes(self.process.pid)

    def pause(self) -> None:
        """Stop all its processes, so that they take nothing from another server."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let a paused server run for as long as this lasts."""
        os.killpg(self.process.pid, signal.SIGCONT)
        yield
        self.pause()

    def kill(self) -> None:
        """End all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(kind: Kind, folder: Path) -> Iterator[Server]:
    """A server that is ready; its output goes to a file in a folder."""
    server = Server(kind, folder / f"{kind.name}.log")
    try:
        server.wait_ready()
        yield server
    finally:
        server.kill()
