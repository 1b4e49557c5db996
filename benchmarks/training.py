"""Overhead of training over a bare loop: ``python -m benchmarks.training``.

Everything is measured in one run, by turns, with the default recipe's network and steps on pictures that are drawn for
it. It prints a table and writes ``benchmarks/results/training.json``.

    loader_share   crops per second of the data loader alone, over those of a step
    train_share    crops per second of ``smart-iqa train``, over those of a bare forward and backward pass with its
                   optimiser step on batches that lie in memory
    resident_mb    most memory of the training and its workers, summed, on many large pictures
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from model.contract import Contract
from model.inference.allocator import keep_freed_memory
from model.inference.engine import mean_std, normalise
from model.networks import registry
from tests.conftest import encode, photo
from training import datasets, recipe, run
from training.crops import Batch, RandomCrops, collate
from training.learner import Learner
from training.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "training.json"
DISTINCT = 100
"""Pictures that are drawn; the others are links to them."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of bare loop, loader and training")
    parser.add_argument("--steps", type=int, default=40, help="steps of each turn")
    parser.add_argument("--pictures", type=int, default=10_000, help="pictures of 1024x768 for the memory")
    arguments = parser.parse_args()
    own = ["dataset=csv", "split=random", "validation_share=0.01", "crops=1", "validation_crops=1"]
    # The second epoch counts: as in the bare loop, first steps do not.
    plain = recipe.load(Path("smart-mobile-biq2021"), [*own, "epochs=2"])
    with tempfile.TemporaryDirectory() as folder:
        rows = rates(Path(folder), plain, arguments.rounds, arguments.steps)
        small = recipe.load(Path("smart-mobile-biq2021"), [*own, "epochs=1", "crops_per_picture=1"])
        labels = draw(Path(folder) / "large", arguments.pictures, 1024, 768)
        _, memory = train(Path(folder), small, labels, "large-run")
    figures = {name: round(statistics.median(values), 2) for name, values in rows.items()}
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "recipe": "smart-mobile-biq2021, 512x512 JPEG",
        **figures,
        "loader_share": round(figures["loader_cps"] / figures["bare_cps"], 2),
        "train_share": round(figures["train_cps"] / figures["bare_cps"], 3),
        "pictures_1024x768": arguments.pictures,
        "resident_mb": round(memory),
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for name, value in report.items():
        print(f"{name:18} {value}")


def rates(folder: Path, plain: Recipe, rounds: int, steps: int) -> dict[str, list[float]]:
    """Crops per second of bare loop, loader and training, by turns."""
    labels = draw(folder / "small", round(plain.batch_pictures * steps / (1 - plain.validation_share)), 512, 512)
    data = datasets.read("csv", labels)
    contract = Contract(scale=data.scale)
    crops = RandomCrops(list(data.samples), contract, plain)
    in_memory = [collate([crops[one] for one in batch]) for step in crops.steps(1)[:4] for batch in step]
    rows: dict[str, list[float]] = {"bare_cps": [], "loader_cps": [], "train_cps": []}
    for turn in range(rounds):
        rows["bare_cps"].append(bare(plain, contract, in_memory, steps))
        rows["loader_cps"].append(loaded(crops, steps))
        rate, _ = train(folder, plain, labels, f"run-{turn}")
        rows["train_cps"].append(rate)
    return rows


def bare(plain: Recipe, contract: Contract, batches: list[Batch], steps: int) -> float:
    """Crops per second of forward, backward and optimiser step alone."""
    keep_freed_memory()
    network = registry.build(plain.network).to(memory_format=torch.channels_last)
    Learner(network, plain, steps).train_mode(epoch=1)
    optimizer = torch.optim.AdamW(parameter for parameter in network.parameters() if parameter.requires_grad)
    statistics_ = mean_std(contract, "cpu")
    count = 0
    for step in range(steps + 3):
        if step == 3:
            started, count = time.perf_counter(), 0
        batch = batches[step % len(batches)]
        crops_NHWC = torch.cat(batch.items)[batch.order[: batch.labels.numel()]]
        optimizer.zero_grad()
        loss = F.l1_loss(network(normalise(crops_NHWC, statistics_)).score, batch.labels.flatten())
        loss.backward()
        optimizer.step()
        count += batch.labels.numel()
    return count / (time.perf_counter() - started)


def loaded(crops: RandomCrops, steps: int) -> float:
    """Crops per second of the data loader alone, with the one worker that two cores get."""
    batches = [batch for step in crops.steps(1)[:steps] for batch in step]
    count, started = 0, time.perf_counter()
    for batch in DataLoader(crops, batch_sampler=batches, num_workers=1, collate_fn=collate):
        count += batch.labels.numel()
    return count / (time.perf_counter() - started)


def train(folder: Path, plain: Recipe, labels: Path, name: str) -> tuple[float, float]:
    """Run ``smart-iqa train``: crops per second as it logs them, and the most memory that it held, in MB."""
    init = folder / "init.safetensors"
    save_file(registry.build(plain.network).trunks()["backbone"].state_dict(), init)
    (folder / "recipe.toml").write_text(recipe.dump(plain), encoding="utf-8")
    command = [sys.executable, "-c", "from cli.main import main; main()", "train", str(folder / "recipe.toml")]
    options = ["--root", str(labels), "--out", str(folder / name), "--init", str(init)]
    process = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    most = [0.0]
    watch = threading.Thread(target=lambda: most.extend(resident(process)))
    watch.start()
    assert process.wait() == 0
    watch.join()
    logged = re.findall(r"trained at ([\d.]+) crops/s", (folder / name / run.LOG).read_text(encoding="utf-8"))
    return float(logged[-1]), max(most)


def resident(process: "subprocess.Popen[bytes]") -> Iterator[float]:
    """Memory of a process and its children in MB, twice a second while it lives."""
    while process.poll() is None:
        total = 0
        for pid in [process.pid, *children(process.pid)]:
            try:
                text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            except OSError:
                continue
            if found := re.search(r"VmRSS:\s+(\d+)", text):
                total += int(found[1])
        yield total / 1024
        time.sleep(0.5)


def children(pid: int) -> list[int]:
    """Process numbers of a process's children."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def draw(folder: Path, count: int, width: int, height: int) -> Path:
    """Make a labelled set of pictures, of which at most ``DISTINCT`` differ; its CSV file."""
    folder.mkdir()
    lines = ["path,mos"]
    for number in range(count):
        file = folder / f"{number:05}.jpg"
        if number < DISTINCT:
            file.write_bytes(encode(photo(width, height, seed=number), quality=90))
        else:
            os.link(folder / f"{number % DISTINCT:05}.jpg", file)
        lines.append(f"{file.name},{number % 97 / 97}")
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "labels.csv"


if __name__ == "__main__":
    main()
