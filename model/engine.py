"""A network on a device, run at fixed batch shapes that all give the same bits.

Libraries choose their kernels by batch size, and other kernels add up in another order: run freely, a crop's score
would depend on the company it is in. So the engine pads every batch to one of a few shapes, and ``warm`` admits a
shape only if it reproduces the largest one's results bit for bit, at every position.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.allocator import keep_freed_memory
from model.checkpoint import Checkpoint
from model.contract import Contract

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]

CANDIDATE_SHAPES = {"cpu": (1, 2, 4, 8), "cuda": (8, 32, 128)}
"""Crops per batch that are tried; on a CPU, crops per second hardly grow past 8."""
_PROBE_SEED = 20


class Engine:
    """Scores batches of crops.

    Not thread-safe: one thread at a time may call it.

    Attributes:
        cap: Crops that fit one batch.
        shapes: Batch shapes in use, smallest first; what ``warm`` has admitted.
        reproducible: Whether a crop's score is the same at every position of the largest shape; known after ``warm``.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32`` or ``bf16``.
        item_shape: Height, width and channels of a crop.
    """

    def __init__(
        self,
        network: nn.Module,
        contract: Contract,
        *,
        device: DeviceName = "auto",
        precision: Precision = "auto",
        shapes: Sequence[int] | None = None,
    ) -> None:
        self.device = resolve_device(device)
        if self.device == "cpu":
            keep_freed_memory()
        self.precision = _resolve_precision(precision, self.device, network)
        if self.device == "cuda" and self.precision == "fp32":
            # By default convolutions round fp32 to TF32, which golden scores made on a CPU do not allow.
            torch.backends.cudnn.allow_tf32 = False
        self.shapes = tuple(sorted(shapes or CANDIDATE_SHAPES[self.device]))
        self.cap = self.shapes[-1]
        self.reproducible = False
        self.item_shape = (contract.crop_size, contract.crop_size, 3)
        self._network = network.to(self.device).to(memory_format=torch.channels_last).eval()
        self._mean_std = mean_std(contract, self.device)
        self._staging_NHWC = torch.zeros(
            (self.cap, *self.item_shape), dtype=torch.uint8, pin_memory=self.device == "cuda"
        )

    @classmethod
    def of(cls, checkpoint: Checkpoint, *, device: DeviceName = "auto", precision: Precision = "auto") -> "Engine":
        """Make and warm the engine of a checkpoint."""
        engine = cls(checkpoint.network, checkpoint.contract, device=device, precision=precision)
        engine.warm()
        return engine

    def warm(self) -> None:
        """Run every shape, and keep those that agree with the largest one to the last bit."""
        probe_NHWC = np.random.default_rng(_PROBE_SEED).integers(0, 256, (self.cap, *self.item_shape), dtype=np.uint8)
        # Half smooth, half noise: both ends of what activations do.
        probe_NHWC[::2] = np.sort(probe_NHWC[::2], axis=1)
        reference = self._run_at(self.cap, [probe_NHWC])
        rolled = self._run_at(self.cap, [np.roll(probe_NHWC, 1, axis=0)])
        self.reproducible = np.array_equal(np.roll(reference, 1, axis=0), rolled)
        self.shapes = tuple(
            shape
            for shape in self.shapes
            if shape == self.cap or np.array_equal(self._in_chunks(shape, probe_NHWC), reference)
        )

    def run(self, parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Score one batch.

        Args:
            parts: uint8 crops, each (n, H, W, 3); together at most ``cap`` crops.

        Returns:
            (N, D) rows in the order of the crops: the output, then the stage weights if the network has any.
        """
        count = sum(len(part) for part in parts)
        assert 0 < count <= self.cap, f"{count} crops for a batch of at most {self.cap}"
        return self._run_at(next(shape for shape in self.shapes if shape >= count), parts)

    def predict(self, crops_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score any number of crops: ``run`` over as many batches as it takes."""
        return self._in_chunks(self.cap, crops_NHWC)

    def _in_chunks(self, size: int, crops_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        starts = range(0, len(crops_NHWC), size)
        return np.concatenate([self.run([crops_NHWC[start : start + size]]) for start in starts])

    @torch.inference_mode()
    def _run_at(self, shape: int, parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        staging = self._staging_NHWC.numpy()
        filled = 0
        for part in parts:
            staging[filled : filled + len(part)] = part
            filled += len(part)
        crops = normalise(self._staging_NHWC[:shape].to(self.device, non_blocking=True), self._mean_std)
        with self._autocast():
            score, stage_weights = self._network(crops)
        columns = [score.unsqueeze(1)] if stage_weights is None else [score.unsqueeze(1), stage_weights]
        rows: NDArray[np.float32] = torch.cat([column.float() for column in columns], dim=1).cpu().numpy()
        return rows[:filled]

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16")


def mean_std(contract: Contract, device: str) -> tuple[Tensor, Tensor]:
    """The contract's normalisation in units of 8-bit values, each (3,)."""
    return 255 * torch.tensor(contract.mean, device=device), 255 * torch.tensor(contract.std, device=device)


def normalise(crops_NHWC: Tensor, mean_std: tuple[Tensor, Tensor]) -> Tensor:
    """Turn uint8 crops (N, H, W, 3) into normalised fp32 ones (N, 3, H, W), channels last in memory."""
    mean, std = mean_std
    return crops_NHWC.float().sub_(mean).div_(std).permute(0, 3, 1, 2)


def resolve_device(device: DeviceName) -> Literal["cpu", "cuda"]:
    """Choose the device that ``auto`` means.

    Raises:
        ValueError: CUDA was asked for and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda was asked for, but this machine has no usable CUDA device")
    return device


def _resolve_precision(precision: Precision, device: str, network: nn.Module) -> Literal["fp32", "bf16"]:
    """Choose by rule, never by a stopwatch: two starts of one machine must give one score."""
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # Matrix products gain from AMX tiles; depthwise convolutions do not, and networks built on them stay exact.
    depthwise = any(
        isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels for layer in network.modules()
    )
    return "bf16" if torch.cpu._is_amx_tile_supported() and not depthwise else "fp32"
