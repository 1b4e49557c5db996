"""Trains every system for a few minutes and serves it.

    python -m benchmarks.systems --root BIQ2021 --init mobilenetv2_100.safetensors

Each learns a few hundred photos of BIQ2021, from the pretrained MobileNetV2 where its trunk may be one and from random
weights elsewhere. One service then loads all the checkpoints, and is asked for scores twice: what it answers must be
what the offline scorer says, to the last digit. It prints JSON lines and writes ``benchmarks/results/systems.json``.

The correlations say that a system learns here, not which one is better: minutes of training on hundreds of photos are
no comparison of architectures.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import torch

from model import checkpoint
from model.contract import Contract
from model.networks import registry
from model.scale import Scale
from model.scorer import Scorer
from training import datasets, initial_weights, recipe, trainer
from training.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "systems.json"
PORT = 8731
COMMON: dict[str, Any] = {
    "dataset": "biq2021",
    "epochs": 4,
    "batch_pictures": 16,
    "crops_per_picture": 2,
    "backbone_lr": 2e-4,
    "head_lr": 1e-3,
    "warmup_epochs": 0.5,
    "ema_decay": 0.9,
    "freeze_bn": True,
    "crops": 4,
}
MOBILE = {"backbone": "mobilenetv2_100"}
WHOLE = {"crops": 1, "validation_crops": 1, "crops_per_picture": 1, "freeze_bn": False}
SYSTEMS: dict[str, dict[str, Any]] = {
    "smart-mobile": {},
    "smart-mobile-eq": {"options": {"rank": 64}},
    "hyperiqa": {**MOBILE, "optimizer": "adam"},
    "life-iqa-mobile": {"loss": "smooth_l1"},
    "loda-ti": {**MOBILE, "loss": "plcc_mse", "vertical_flip": True, "backbone_lr": 0.0},
    "musiq": {**WHOLE, "width": 256, "height": 256, "backbone_lr": 1e-4, "head_lr": 1e-4},
}
FROM_SCRATCH = {"musiq"}


def main() -> None:
    """Train, serve, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="BIQ2021")
    parser.add_argument("--init", type=Path, required=True, help="MobileNetV2's weights (safetensors)")
    parser.add_argument("--photos", type=int, default=400, help="of which a fifth is for validation")
    arguments = parser.parse_args()
    samples = datasets.read("biq2021", arguments.root).samples
    chosen = random.Random(0).sample(samples, arguments.photos)
    names = [sample.name for sample in chosen]
    cut = arguments.photos // 5
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        split = folder / "split.json"
        split.write_text(
            json.dumps({"dataset": "biq2021", "train": names[cut:], "validation": names[:cut], "test": []})
        )
        rows = [train(name, changes, arguments, split, folder) for name, changes in SYSTEMS.items()]
        serve(rows, folder, [sample.path for sample in chosen[:8]])
    machine = {"cores": os.cpu_count(), "torch": torch.__version__, "photos": arguments.photos}
    RESULTS.write_text(json.dumps({**machine, "systems": rows}, indent=2) + "\n")


def train(
    name: str, changes: dict[str, Any], arguments: argparse.Namespace, split: Path, folder: Path
) -> dict[str, Any]:
    """Train one system by the loop of ``smart-iqa train``."""
    made: Recipe = recipe.make({**COMMON, "network": name, **changes}, name)
    first, init = starting_point(made, arguments.init, folder)
    started = time.monotonic()
    trained = trainer.train(made, arguments.root, folder / name, init=init, split=split)
    seconds = time.monotonic() - started
    network = checkpoint.load(trained).network
    (validation,) = checkpoint.inspect(trained)[0].figures.values()
    return {
        "network": name,
        "first_weights": first,
        "parameters": registry.parameter_count(network),
        "trainable": sum(one.numel() for one in network.parameters() if one.requires_grad),
        "minutes": round(seconds / 60, 1),
        "srcc": validation["srcc"],
        "plcc": validation["plcc"],
    }


def starting_point(made: Recipe, pretrained: Path, folder: Path) -> tuple[str, Path]:
    """What a system starts from, in words and as what ``--init`` takes."""
    if made.network in FROM_SCRATCH:
        return "random", initial_weights.RANDOM
    network = registry.build(made.network, **made.network_changes())
    if len(network.trunks()) == 1:
        return pretrained.name, pretrained
    # A file holds one trunk; the other one stays random, and frozen.
    initial_weights.load_trunk(network.trunks()["backbone"], pretrained)
    scale = Scale(dataset="none", min=-1.0, max=1.0)
    start = folder / f"{made.network}-start"
    checkpoint.save(start, network, name="start", contract=Contract(scale=scale), card="")
    return f"{pretrained.name}, random transformer", start


def serve(rows: list[dict[str, Any]], folder: Path, photos: list[Path]) -> None:
    """Ask one service that holds all of them, and compare with the offline scorer."""
    checkpoints = [folder / row["network"] / "checkpoint" for row in rows]
    variables = {"SMARTIQA_CHECKPOINTS": ",".join(map(str, checkpoints)), "SMARTIQA_PORT": str(PORT)}
    service = subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", "serve"], env={**os.environ, **variables}
    )
    try:
        wait_ready(service)
        for row, trained in zip(rows, checkpoints, strict=True):
            scorer = Scorer.load(trained)
            for photo in photos:
                answers = [ask(scorer.model.name, photo) for _ in range(2)]
                offline = scorer.score(photo).to_dict()
                assert answers[0] == answers[1] == offline, (row["network"], photo.name)
            row["answers"] = f"{len(photos)} photos twice, all equal to the offline scores"
            print(json.dumps(row))
    finally:
        service.terminate()
        service.wait()


def wait_ready(service: "subprocess.Popen[bytes]") -> None:
    """Wait until the service answers that it is ready, for two minutes at most."""
    until = time.monotonic() + 120
    while service.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health/ready", timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise RuntimeError("the service has ended, or does not become ready")


def ask(model: str, photo: Path) -> dict[str, Any]:
    """Score one photo over HTTP."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/score?model={model}", photo.read_bytes(), {"Content-Type": "image/jpeg"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: dict[str, Any] = json.load(response)
    answer.pop("timing_ms")
    return answer


if __name__ == "__main__":
    main()
