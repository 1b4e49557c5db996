"""The engine beside the networks as the papers' code runs them: ``python -m benchmarks.engine``.

Two processes take turns: one computes timm's modules eagerly, with the generated target network as grouped convolutions
and PyTorch's own memory settings; the other is the engine, from uint8 crops to rows. Weights are random, which changes
no time. It prints crops per second at each kind's best batch and the ratios to eager fp32 and bf16, and writes
``benchmarks/results/engine.json``.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.contract import Contract
from model.inference.engine import Engine, mean_std, network_inputs
from model.inference.form import inference_form
from model.inference.quantise import observe
from model.networks import registry
from model.networks.smart import SmartIQA
from model.scale import Scale

RESULTS = Path(__file__).parent / "results" / "engine.json"
NETWORKS = ("smart-mobile", "smart-tiny", "smart-base", "hyperiqa", "life-iqa-mobile", "loda-ti", "musiq-single")
EAGER, OURS = ("eager fp32", "eager bf16"), ("fp32", "bf16", "int8")
BATCHES = (1, 4, 8, 16)
Step = Callable[[int], object]
"""Computes a batch of some size."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=registry.names(), metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each kind")
    parser.add_argument("--seconds", type=float, default=1.0, help="least time of a turn")
    parser.add_argument("--without", nargs="*", default=(), choices=(*EAGER, *OURS), help="kinds to leave out")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    report: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "amx": torch.cpu._is_amx_tile_supported(),
        "networks": {},
    }
    for name in arguments.networks:
        sides: dict[str, Connection] = {}
        processes = []
        for kinds, build in ((EAGER, eager_steps), (OURS, engine_steps)):
            here, there = context.Pipe()
            processes.append(context.Process(target=serve, args=(there, build, name, max(arguments.batches))))
            processes[-1].start()
            sides |= dict.fromkeys((kind for kind in kinds if kind not in arguments.without), here)
        rates: dict[str, dict[int, list[float]]] = {kind: {} for kind in sides}
        for _ in range(arguments.rounds):
            for batch in arguments.batches:
                for kind, side in sides.items():
                    side.send((kind, batch, arguments.seconds))
                    rates[kind].setdefault(batch, []).append(side.recv())
        for process in processes:
            process.terminate()
            process.join()
        report["networks"][name] = row = summary(rates)
        print(line(name, row), flush=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def summary(rates: dict[str, dict[int, list[float]]]) -> dict[str, Any]:
    """Median rates of each kind by batch, its best, and how its best compares with the eager ones."""
    medians = {kind: {batch: statistics.median(turns) for batch, turns in row.items()} for kind, row in rates.items()}
    best = {kind: max(row.values()) for kind, row in medians.items()}
    return {
        kind: {
            "crops_per_second": {batch: round(rate, 2) for batch, rate in medians[kind].items()},
            "best": round(best[kind], 2),
            **{f"times_{base.replace(' ', '_')}": round(best[kind] / best[base], 2) for base in EAGER if base in best},
        }
        for kind in medians
    }


def line(name: str, row: dict[str, Any]) -> str:
    """A network's row of the table."""
    cells = []
    for kind, figures in row.items():
        ratio = figures.get("times_eager_fp32")
        cells.append(f"{kind} {figures['best']:7.1f}/s" + (f" ({ratio:.2f}x)" if ratio else ""))
    return f"{name:16} " + "   ".join(cells)


def serve(side: Connection, build: Callable[[str, int], dict[str, Step]], name: str, most: int) -> None:
    """Measure the networks that the parent process requests, until this process is ended."""
    steps = build(name, most)
    while True:
        kind, batch, seconds = side.recv()
        step = steps[kind]
        step(batch)
        times: list[float] = []
        began = time.perf_counter()
        while (now := time.perf_counter()) < began + seconds or not times:
            step(batch)
            times.append(time.perf_counter() - now)
        side.send(batch / statistics.median(times))


def contract_of(name: str) -> Contract:
    """The contract that a recipe gives a network."""
    view = registry.view(name)
    return Contract(scale=Scale(dataset="made-up", min=0.0, max=1.0), **({"crops": 1, **view} if view else {}))


def eager_steps(name: str, most: int) -> dict[str, Step]:
    """Eager networks on crops that have been normalised before."""
    contract = contract_of(name)
    items = torch.from_numpy(contract.probe(most, contract.item_shapes()[-1]))
    inputs = network_inputs(items, mean_std(contract, "cpu"))
    if contract.view == "crops":
        inputs = inputs.contiguous()

    def step_of(dtype: torch.dtype) -> Step:
        network = registry.build(name).eval().to(dtype)
        if isinstance(network, SmartIQA):
            network.target = GroupedTarget()  # type: ignore[assignment]
        typed = inputs if contract.view == "tokens" else inputs.to(dtype)

        def step(batch: int) -> object:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                return network(typed[:batch])

        return step

    return {"eager fp32": step_of(torch.float32), "eager bf16": step_of(torch.bfloat16)}


def engine_steps(name: str, most: int) -> dict[str, Step]:
    """The engine in its precisions."""
    contract = contract_of(name)
    shape = contract.item_shapes()[-1]
    items = contract.probe(most, shape)
    network = registry.build(name).eval()
    form = inference_form(network)
    with torch.inference_mode():
        few = network_inputs(torch.from_numpy(items[:4]), mean_std(contract, "cpu"))
        ranges = observe(form, lambda: form(few))
    steps: dict[str, Step] = {}
    for precision in OURS:
        engine = Engine(
            network,
            contract,
            device="cpu",
            precision=precision,  # type: ignore[arg-type]
            shapes=[most],
            ranges=ranges,
        )
        # One batch of exactly that size, without padding.
        steps[precision] = lambda batch, engine=engine: engine._run_at(batch, [items[:batch]])  # type: ignore[misc]
    return steps


class GroupedTarget(torch.nn.Module):
    """The target network as HyperIQA's code computes it: the crops of a batch as groups of one convolution."""

    def forward(self, vector_NI: Tensor, layers: list[Any]) -> Tensor:
        """Answer raw scores (N,)."""
        count = len(vector_NI)
        hidden = vector_NI.reshape(1, -1, 1, 1)
        for place, (weight, bias) in enumerate(layers):
            kernels = weight.reshape(-1, weight.shape[-1], 1, 1)
            hidden = F.conv2d(hidden, kernels.to(hidden.dtype), bias.reshape(-1).to(hidden.dtype), groups=count)
            hidden = torch.sigmoid(hidden) if place < 4 else hidden
        return hidden.flatten()


if __name__ == "__main__":
    main()
