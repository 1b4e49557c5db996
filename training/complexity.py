"""What networks cost, in the terms of the SMART-IQA paper's Table VI."""

import statistics
import time
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model import registry, tokens
from model.networks.musiq import Musiq

CROP = 224


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a network costs for one crop of 224x224.

    Attributes:
        name: Preset name.
        parameters: Count, trainable or not.
        gmacs: Multiply-accumulates in units of 10^9: convolutions and matrix products, attention among them.
        latency_ms: Median time of one crop alone, in milliseconds.
        throughput: Crops per second in batches.
    """

    name: str
    parameters: int
    gmacs: float
    latency_ms: float
    throughput: float


def measure(name: str, *, batch: int, rounds: int, device: str) -> Cost:
    """Measure a preset with random weights, in fp32.

    Args:
        name: Preset name.
        batch: Crops to a batch for the throughput.
        rounds: Timed runs of each, after two that do not count.
        device: ``cpu`` or ``cuda``.

    Raises:
        ValueError: No preset has that name.
    """
    network = registry.build(name).to(device).to(memory_format=torch.channels_last).eval()
    return Cost(
        name=name,
        parameters=registry.parameter_count(network),
        gmacs=gmacs(network),
        latency_ms=1000 * _seconds(network, 1, rounds, device),
        throughput=batch / _seconds(network, batch, rounds, device),
    )


@torch.inference_mode()
def gmacs(network: nn.Module) -> float:
    """Count multiply-accumulates of one crop, in units of 10^9."""
    # The counter sees attention only where it is made of matrix products.
    fused = [layer for layer in network.modules() if getattr(layer, "fused_attn", False)]
    _set_fused(fused, False)
    counter = FlopCounterMode(display=False)
    with counter:
        network.eval()(_example(network, 1, next(network.parameters()).device.type))
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


def _example(network: nn.Module, batch: int, device: str) -> Tensor:
    """A batch of what a network sees of a picture of 224x224."""
    if isinstance(network, Musiq):
        cut = torch.from_numpy(tokens.cut(Image.new("RGB", (CROP, CROP)), network.config.longer_sides))
        real = cut[cut[:, -1] > 0]
        return real.expand(batch, -1, -1).contiguous().to(device)
    return torch.rand(batch, 3, CROP, CROP, device=device).to(memory_format=torch.channels_last)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
