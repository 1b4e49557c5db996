"""Cost of networks: parameters, multiply-accumulates, latency, throughput (SMART-IQA, Table VI) and memory."""

import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model import tokens
from model.networks import registry
from model.networks.musiq import Musiq

CROP = 224
STATUS = Path("/proc/self/status")
"""Memory of a process on Linux. ``getrusage`` is not used because a new process inherits its parent's peak there."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of a network for one item: a crop of 224x224, or a whole picture of that size for MUSIQ.

    Attributes:
        name: Preset name.
        parameters: Number of parameters, trainable or not.
        trainable: Number of trainable parameters.
        gmacs: Multiply-accumulates in units of 10^9: convolutions and matrix products, attention among them.
        latency_ms: Median time of one item alone, in milliseconds.
        throughput: Items per second in batches.
        items: The kind of item, ``crops`` or ``pictures``.
        peak_mb: Peak memory in units of 10^6 bytes, weights included. On CUDA the most that was allocated; on a CPU the
            process's peak above what it held before, which is the network's alone only in a fresh process
            (``measure_alone``). None where the system does not report it.
    """

    name: str
    parameters: int
    trainable: int
    gmacs: float
    latency_ms: float
    throughput: float
    items: str
    peak_mb: float | None


def measure(name: str, *, batch: int, rounds: int, device: str) -> Cost:
    """Measure a preset with random weights, in fp32.

    Args:
        name: Preset name.
        batch: Items to a batch for the throughput.
        rounds: Timed runs of each, after two untimed ones.
        device: ``cpu`` or ``cuda``.

    Raises:
        ValueError: No preset has that name.
    """
    before = _held(device)
    network = registry.build(name).to(device).to(memory_format=torch.channels_last).eval()
    latency, duration = (_seconds(network, size, rounds, device) for size in (1, batch))
    peak = _peak(device)
    return Cost(
        name=name,
        parameters=registry.parameter_count(network),
        trainable=sum(one.numel() for one in network.parameters() if one.requires_grad),
        # Last, because it allocates whole attention matrices, which would raise the peak.
        gmacs=gmacs(network),
        latency_ms=1000 * latency,
        throughput=batch / duration,
        items="pictures" if isinstance(network, Musiq) else "crops",
        peak_mb=None if before is None or peak is None else (peak - before) / 1e6,
    )


def measure_alone(
    name: str,
    *,
    batch: int,
    rounds: int,
    device: str,
    function: Callable[..., Cost] = measure,
) -> Cost:
    """Measure a preset in a process of its own, so that no other network's memory or failure affects it.

    Args:
        name: As for ``measure``, and so are ``batch``, ``rounds`` and ``device``.
        batch: Items to a batch.
        rounds: Timed runs.
        device: ``cpu`` or ``cuda``.
        function: The function that the process calls.

    Raises:
        RuntimeError: The process died, for instance because it ran out of memory.
        ValueError: No preset has that name.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, name, batch=batch, rounds=rounds, device=device).result()
        except BrokenProcessPool as error:
            raise RuntimeError("its process died, perhaps for want of memory") from error


@torch.inference_mode()
def gmacs(network: nn.Module, height: int = CROP, width: int = CROP) -> float:
    """Count multiply-accumulates of one item of that size, in units of 10^9."""
    # The counter counts attention only where it is computed by matrix products.
    fused = [layer for layer in network.modules() if getattr(layer, "fused_attn", False)]
    _set_fused(fused, False)
    counter = FlopCounterMode(display=False)
    with counter:
        network.eval()(_example(network, 1, next(network.parameters()).device.type, height, width))
    _set_fused(fused, True)
    return float(counter.get_total_flops()) / 2e9


def _set_fused(layers: list[nn.Module], fused: bool) -> None:
    for layer in layers:
        setattr(layer, "fused_attn", fused)  # noqa: B010 -- modules are not known to have it


@torch.inference_mode()
def _seconds(network: nn.Module, batch: int, rounds: int, device: str) -> float:
    """Median time of a batch."""
    items = _example(network, batch, device)
    times = []
    for _ in range(rounds + 2):
        _wait(device)
        started = time.perf_counter()
        network(items)
        _wait(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def _example(network: nn.Module, batch: int, device: str, height: int = CROP, width: int = CROP) -> Tensor:
    """A batch of a network's items, of pictures of that size."""
    if isinstance(network, Musiq):
        cut = torch.from_numpy(tokens.cut(np.zeros((height, width, 3), np.uint8), network.config.longer_sides))
        real = cut[cut[:, -1] > 0]
        return real.expand(batch, -1, -1).contiguous().to(device)
    return torch.rand(batch, 3, height, width, device=device).to(memory_format=torch.channels_last)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _held(device: str) -> int | None:
    """Bytes that are held now; on CUDA this also resets the peak."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return _status("VmRSS")


def _peak(device: str) -> int | None:
    """Peak of the bytes that were held."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(field: str) -> int | None:
    if not STATUS.exists():
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    return 1024 * int(found[1]) if found else None
