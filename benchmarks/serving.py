"""The service compared with the bare engine and with two alternative servers: ``make bench``.

The same checkpoint and crops are served by ``smart-iqa serve``, by a plain FastAPI endpoint and by LitServe with
batching (``benchmarks/peers``; without the package it is reported as missing). All run at once and take turns: those
that are not being measured are stopped meanwhile. It prints tables and writes ``benchmarks/results/serving.json``.

    idle       latency of one client that asks again and again
    saturated  pictures per second with many clients in flight, each waiting for its answer
    sustained  the highest rate of a fixed Poisson pattern of arrivals at which 99 of 100 answers come within a second
               of the moment that their request was due
    overhead   idle p50 less decode and engine of the same picture
    share      crops per second of the saturated service, of the bare engine's
"""

import argparse
import importlib.util
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import openloop, servers
from benchmarks.measure import bare_rate, machine, p50
from benchmarks.openloop import Trial
from benchmarks.servers import Kind, Server
from model.golden import TOLERANCE
from model.scorer import Scorer
from tests.conftest import EXAMPLES, encode

RESULTS = Path(__file__).parent / "results" / "serving.json"
SIZES = {"512x512": (512, 512), "0.2 MP": (512, 384), "2 MP": (1632, 1224), "12 MP": (4000, 3000)}
BATCHES = ("1:0", "2:0.002", "4:0.005", "8:0.02")
SAME_SCORE = 1e-3
"""Points of 100 by which fp32 scores may differ."""


@dataclass(kw_only=True)
class Row:
    """Figures of one server and one picture."""

    idle_ms: list[float] = field(default_factory=list)
    saturated: list[float] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)

    def report(self, crops: int) -> dict[str, Any]:
        """The figures: milliseconds, pictures and crops per second."""
        sustained = openloop.best(self.trials)
        return {
            "idle_p50_ms": round(statistics.median(self.idle_ms), 2),
            "idle_p99_ms": round(openloop.percentile(self.idle_ms, 0.99), 2),
            "saturated_pictures": round(statistics.median(self.saturated), 2),
            "sustained_pictures": round(sustained, 2),
            "sustained_crops": round(crops * sustained, 1),
            "trials": [asdict(trial) for trial in self.trials],
        }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="turns of engine and servers with the first picture")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a load; half for other pictures")
    parser.add_argument("--clients", type=int, default=16, help="clients in flight at saturation")
    parser.add_argument("--steps", type=int, default=4, help="rates that are tried; one less for other pictures")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="pictures")
    parser.add_argument("--batches", nargs="+", default=BATCHES, help="LitServe's pictures:seconds; the best is kept")
    arguments = parser.parse_args()

    photo = Image.open(EXAMPLES[0])
    pictures = {name: encode(photo.resize(SIZES[name]), quality=90) for name in arguments.sizes}
    scorer = Scorer.load()
    crops = {name: len(scorer.score(picture).crops) for name, picture in pictures.items()}
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        kinds: list[Kind] = [servers.OURS, servers.FASTAPI]
        tuning: dict[str, float] = {}
        if importlib.util.find_spec("litserve"):
            kind, tuning = tune(arguments, pictures[arguments.sizes[0]], folder)
            kinds.append(kind)
        running = [stack.enter_context(servers.running(kind, folder)) for kind in kinds]
        for server in running:
            server.pause()
        differences = compare(running, pictures, scorer)
        engine, rows = take_turns(arguments, running, pictures, scorer)
        memory = {server.kind.name: round(server.megabytes) for server in running}
    report = {
        "machine": machine(),
        "device": f"{scorer.engine.device} {scorer.engine.precision}",
        "clients": arguments.clients,
        "seconds": arguments.seconds,
        "limit_ms": 1e3 * openloop.LIMIT_SECONDS,
        "missing": [] if tuning else ["litserve"],
        "litserve_pictures_per_second": tuning,
        "score_differences": differences,
        "resident_mb": memory,
        **assemble(rows, {name: statistics.median(values) for name, values in engine.items()}, crops),
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)


def take_turns(
    arguments: argparse.Namespace, running: Sequence[Server], pictures: Mapping[str, bytes], scorer: Scorer
) -> tuple[dict[str, list[float]], dict[str, dict[str, Row]]]:
    """Measure everything; what the bare engine did, and the rows of all servers by picture."""
    engine: dict[str, list[float]] = {"decode_ms": [], "engine_ms": [], "crops": []}
    rows = {name: {server.kind.name: Row() for server in running} for name in pictures}
    main_one = arguments.sizes[0]
    for turn in range(arguments.rounds):
        measure_engine(scorer, pictures[main_one], arguments.seconds, engine)
        for name in pictures if turn == 0 else (main_one,):
            seconds = arguments.seconds / (1 if name == main_one else 2)
            for server in running:
                measure(server, pictures[name], rows[name][server.kind.name], arguments.clients, seconds)
    for name, of in rows.items():
        seconds = arguments.seconds / (1 if name == main_one else 2)
        for server in running:
            steps = arguments.steps - (name != main_one)
            sustain(server, pictures[name], of[server.kind.name], seconds, steps)
    return engine, rows


def tune(arguments: argparse.Namespace, picture: bytes, folder: Path) -> tuple[Kind, dict[str, float]]:
    """Find the batch and waiting time with which LitServe answers most; the rates of all."""
    rates: dict[str, float] = {}
    for setting in arguments.batches:
        with servers.running(servers.litserve(setting), folder) as server:
            server.score(picture)
            rate, _ = server.saturate(picture, clients=arguments.clients, seconds=arguments.seconds / 3)
            rates[setting] = round(rate, 2)
    return servers.litserve(max(rates, key=lambda setting: rates[setting])), rates


def compare(running: Sequence[Server], pictures: Mapping[str, bytes], scorer: Scorer) -> dict[str, float]:
    """Ask all servers for all scores; by how much they differ from the scorer's at most.

    Raises:
        RuntimeError: By so much that they cannot have computed the same.
    """
    # Peers compute in fp32; where the engine does not, scores differ by its precision.
    tolerance = SAME_SCORE if scorer.engine.precision == "fp32" else TOLERANCE[scorer.engine.precision]
    expected = {name: scorer.score(picture).score for name, picture in pictures.items()}
    differences = {}
    for server in running:
        name = server.kind.name
        with server.awake():
            differences[name] = max(abs(server.score(pictures[size]) - expected[size]) for size in pictures)
        if not differences[name] <= tolerance:
            raise RuntimeError(f"scores of {name} differ by {differences[name]}")
    return {name: round(difference, 6) for name, difference in differences.items()}


def measure_engine(scorer: Scorer, picture: bytes, seconds: float, figures: Mapping[str, list[float]]) -> None:
    """One turn of the bare parts: decode and engine for one picture, and crops per second."""
    contract = scorer.checkpoint.contract
    items = contract.views(contract.decode(picture)).items
    figures["decode_ms"].append(p50(lambda: contract.views(contract.decode(picture)), repeats=50))
    figures["engine_ms"].append(p50(lambda: scorer.engine.predict(items), repeats=20))
    figures["crops"].append(bare_rate(scorer, seconds))


def measure(server: Server, picture: bytes, row: Row, clients: int, seconds: float) -> None:
    """One turn of a server: idle, then saturated."""
    with server.awake():
        row.idle_ms += [1e3 * latency for latency in server.saturate(picture, clients=1, seconds=seconds / 2)[1]]
        row.saturated.append(server.saturate(picture, clients=clients, seconds=seconds)[0])


def sustain(server: Server, picture: bytes, row: Row, seconds: float, steps: int) -> None:
    """Search for the highest rate that a server sustains, about what it answers at saturation or below."""
    capacity = statistics.median(row.saturated)
    with server.awake():
        row.trials = openloop.search(
            lambda rate: server.attempt(picture, rate, seconds), 0.3 * capacity, 1.1 * capacity, steps
        )


def assemble(
    rows: Mapping[str, Mapping[str, Row]], engine: Mapping[str, float], crops: Mapping[str, int]
) -> dict[str, Any]:
    """Figures of all, ratios of ours to the peers', and the service beside the bare engine."""
    figures = {name: {server: row.report(crops[name]) for server, row in of.items()} for name, of in rows.items()}
    first = next(iter(figures))
    ours = figures[first][servers.OURS.name]
    late = [trial.late_ms for of in rows.values() for row in of.values() for trial in row.trials]
    return {
        "picture": first,
        "crops": crops[first],
        "decode_ms": round(engine["decode_ms"], 2),
        "engine_ms": round(engine["engine_ms"], 2),
        "engine_crops": round(engine["crops"], 2),
        "overhead_ms": round(ours["idle_p50_ms"] - engine["decode_ms"] - engine["engine_ms"], 2),
        "throughput_share": round(crops[first] * ours["saturated_pictures"] / engine["crops"], 3),
        "generator_late_ms": max(late),
        "ratios": {name: ratios(of) for name, of in figures.items()},
        "pictures": figures,
    }


def ratios(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Ours divided by each peer's; None where the peer's is 0."""
    ours = figures[servers.OURS.name]
    names = ("sustained_pictures", "saturated_pictures", "idle_p50_ms")
    return {
        peer: {name: round(ours[name] / of[name], 2) if of[name] else None for name in names}
        for peer, of in figures.items()
        if peer != servers.OURS.name
    }


def show(report: Mapping[str, Any]) -> None:
    """Print what was found."""
    for name, value in report.items():
        if name not in ("pictures", "ratios"):
            print(f"{name:28} {value}")
    columns = ("idle_p50_ms", "idle_p99_ms", "saturated_pictures", "sustained_pictures", "sustained_crops")
    print(f"\n{'':20}" + "".join(f"{column:>20}" for column in columns))
    for size, figures in report["pictures"].items():
        for server, row in figures.items():
            print(f"{size + ' ' + server:20}" + "".join(f"{row[column]:20.2f}" for column in columns))
    print("\nours / peer")
    for size, peers in report["ratios"].items():
        for peer, values in peers.items():
            print(f"{size + ' ' + peer:20}" + "  ".join(f"{name} {value}" for name, value in values.items()))


if __name__ == "__main__":
    main()
