"""The engine: a network on a device, run at fixed batch shapes that all give the same bits.

Libraries choose their kernels by batch size, and other kernels sum in another order, so the score of a crop could
depend on the other crops of its batch. Therefore the engine pads every batch to one of a few shapes, and ``warm``
admits a shape only if it gives the results of the largest shape bit for bit, at every position.
"""

import copy
import logging
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.checkpoint import Checkpoint
from model.contract import Contract
from model.inference import forked
from model.inference.allocator import keep_freed_memory
from model.inference.captured import Captured
from model.inference.form import inference_form
from model.inference.linear import arithmetic
from model.networks.network import Network, Prediction
from model.options import Precision
from model.ranges import Ranges
from model.views import Items

log = logging.getLogger("smart_iqa.engine")

CANDIDATE_SHAPES = {
    ("crops", "cpu"): (1, 2, 4, 8, 16),
    ("crops", "cuda"): (8, 32, 128),
    ("whole", "cpu"): (1, 2, 4),
    ("whole", "cuda"): (8, 32),
    ("tokens", "cpu"): (1,),
    ("tokens", "cuda"): (1, 8),
}
"""Items per batch that ``warm`` tries. On a CPU, crops per second fall again past 16, and one sequence of tokens keeps
all cores busy. Whole pictures are larger than crops, and their several shapes must all be tried."""
WORTH_PADDING = 1.25
"""A batch is padded to a shape up to this many times its size; beyond that it is split in two."""
RECOVERY_BATCHES = 100
"""Batches that must succeed after an out-of-memory error before the full size is tried again."""


class DeviceBroken(BaseException):
    """The device cannot compute anything any more in this process.

    Not an ``Exception``, so that code that retries failed batches does not retry these.
    """


class Engine:
    """Scores batches of work items.

    Not thread-safe: only one thread at a time may call it.

    Args:
        network: A network in training form; it is not changed.
        contract: How its work items are cut.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        precision: What the bulk of the network computes in.
        shapes: Batch shapes to try; those of ``CANDIDATE_SHAPES`` if None.
        ranges: Ranges of activations, for int8.

    Attributes:
        cap: Items per batch, at most; lowered for a while after an out-of-memory error.
        reproducible: Whether an item's score is the same at every position of the largest shape; set by ``warm``.
        device: ``cpu``, ``cuda``, or ``cuda:1`` where it is one of several.
        precision: ``fp32``, ``bf16`` or ``int8``.
        item_shapes: Shapes that items can have.
        contract: How its items are cut.

    Raises:
        ValueError: The device does not exist, or int8 is impossible here.
    """

    def __init__(
        self,
        network: nn.Module,
        contract: Contract,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        shapes: Sequence[int] | None = None,
        ranges: Ranges | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self._kind = torch.device(self.device).type
        if self.device == "cpu":
            keep_freed_memory()
        self.precision = resolve_precision(precision, self._kind, network)
        if self._kind == "cuda" and self.precision == "fp32":
            # By default convolutions round fp32 to TF32; golden scores, recorded on a CPU, do not tolerate that.
            torch.backends.cudnn.allow_tf32 = False
        self.item_shapes = contract.item_shapes()
        candidates = tuple(sorted(shapes or CANDIDATE_SHAPES[contract.view, self._kind]))
        self.cap = self._largest = candidates[-1]
        self._good = 0
        self.reproducible = False
        self._shapes = dict.fromkeys(self.item_shapes, candidates)
        if self.precision == "int8" and (ranges is None or self.device != "cpu"):
            raise ValueError("int8 needs a CPU and a checkpoint with the ranges of its activations")
        self._network = inference_form(
            network,
            self.device,
            torch.bfloat16 if self.precision == "bf16" else torch.float32,
            ranges if self.precision == "int8" else None,
        )
        self.contract = contract
        self._mean_std = mean_std(contract, self.device)
        self._allocate()

    def _allocate(self) -> None:
        """Allocate buffers, stream and graphs, which engines do not share."""
        self._captured: dict[tuple[int, ...], Captured] = {}
        # One buffer serves all item shapes: it holds one batch at a time.
        longest = max(math.prod(shape) for shape in self.item_shapes)
        dtype = torch.float32 if self.contract.view == "tokens" else torch.uint8
        self._staging = torch.zeros(self._largest * longest, dtype=dtype, pin_memory=self._kind == "cuda")
        # Each engine has its own stream, so that its copies overlap with the computations of a twin.
        self._stream = torch.cuda.Stream(self.device) if self._kind == "cuda" else None
        if self._stream is not None:
            # The weights were copied on another stream.
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))

    @classmethod
    def of(cls, checkpoint: Checkpoint, *, device: str = "auto", precision: Precision = "auto") -> "Engine":
        """Make and warm the engine of a checkpoint."""
        ranges = checkpoint.ranges if precision == "int8" else None
        engine = cls(checkpoint.network, checkpoint.contract, device=device, precision=precision, ranges=ranges)
        engine.warm()
        return engine

    def twin(self) -> "Engine":
        """Make and warm an engine for another thread: it shares the weights, but has its own buffers and stream."""
        engine = copy.copy(self)
        engine._shapes = dict(self._shapes)
        engine._allocate()
        engine.warm()
        return engine

    @property
    def shapes(self) -> tuple[int, ...]:
        """Batch shapes that are admitted for the first item shape."""
        return tuple(shape for shape in self._shapes[self.item_shapes[0]] if shape <= self._largest)

    def limit(self, cap: int) -> None:
        """Limit batches to ``cap`` items, one of ``shapes``."""
        assert cap in self.shapes
        self.cap = self._largest = cap

    def warm(self) -> None:
        """Run every shape, and admit those that agree with the largest one to the last bit."""
        self.reproducible = True
        for item_shape in self.item_shapes:
            probe = self.contract.probe(self._largest, item_shape)
            reference = self._run_at(self._largest, [probe])
            rolled = self._run_at(self._largest, [np.roll(probe, 1, axis=0)])
            self.reproducible &= np.array_equal(np.roll(reference, 1, axis=0), rolled)
            self._shapes[item_shape] = tuple(
                shape
                for shape in self._shapes[item_shape]
                if shape == self._largest or np.array_equal(self._run_at(shape, [probe[:shape]]), reference[:shape])
            )

    def run(self, parts: Sequence[Items]) -> NDArray[np.float32]:
        """Score one batch.

        Args:
            parts: Arrays of items, each (n, *shape), all of the same one of ``item_shapes``. Together at most ``cap``,
                or what ``cap`` was before an out-of-memory error.

        Returns:
            (N, D) rows in the order of the items: the output, then the stage weights if the network has any.

        Raises:
            RuntimeError: This batch failed; another may succeed.
            DeviceBroken: The device cannot compute any more in this process.
        """
        count = sum(len(part) for part in parts)
        assert 0 < count <= self._largest, f"{count} items for a batch of at most {self._largest}"
        admitted = self._shapes[parts[0].shape[1:]]
        if count > self.cap and self.cap in admitted:
            return self._in_chunks(self.cap, np.concatenate(list(parts)))
        shape = next(shape for shape in admitted if shape >= count)
        fits = max((other for other in admitted if other < count), default=0)
        if fits and shape > WORTH_PADDING * count:
            items = np.concatenate(list(parts))
            return np.concatenate([self.run([items[:fits]]), self.run([items[fits:]])])
        smaller = max((other for other in admitted if other < shape), default=0)
        try:
            rows_ND = self._run_at(shape, parts)
        except RuntimeError as error:
            self._check_device(error)
            if not smaller or not _is_out_of_memory(error):
                raise
        else:
            self._recover()
            return rows_ND
        # All admitted shapes give the same bits, so a smaller one changes the speed, not the score.
        log.warning("out of memory at %d items to a batch: going on with %d", shape, smaller)
        self.cap, self._good = smaller, 0
        if self._kind == "cuda":
            torch.cuda.empty_cache()
        return self._in_chunks(smaller, np.concatenate(list(parts)))

    def _recover(self) -> None:
        self._good += 1
        if self.cap < self._largest and self._good >= RECOVERY_BATCHES:
            self.cap, self._good = self._largest, 0

    def _check_device(self, error: RuntimeError) -> None:
        """Raise ``DeviceBroken`` if the error broke the device: CUDA then raises at every later call."""
        if self._kind == "cuda":
            try:
                torch.cuda.synchronize(self.device)
            except RuntimeError:
                raise DeviceBroken(f"{self.device}: {type(error).__name__}") from error

    def predict(self, items: Items) -> NDArray[np.float32]:
        """Score any number of items of one shape: ``run`` over as many batches as it takes."""
        return self._in_chunks(self.cap, items)

    def predict_all(self, groups: Sequence[Items]) -> list[NDArray[np.float32]]:
        """Score groups of items, packing groups of one shape into common batches; returns the rows of each group."""
        rows: dict[int, NDArray[np.float32]] = {}
        for item_shape in dict.fromkeys(group.shape[1:] for group in groups):
            alike = [place for place, group in enumerate(groups) if group.shape[1:] == item_shape]
            packed = self.predict(np.concatenate([groups[place] for place in alike]))
            ends = np.cumsum([len(groups[place]) for place in alike])
            rows |= dict(zip(alike, np.split(packed, ends[:-1]), strict=True))
        return [rows[place] for place in range(len(groups))]

    @property
    def has_stages(self) -> bool:
        """Whether the network has stages, whose activity can be mapped."""
        return self.contract.view != "tokens" and getattr(self._network, "backbone", None) is not None

    @torch.inference_mode()
    def stages(self, crops_NHWC: Items) -> list[NDArray[np.float32]]:
        """Compute the activity maps of the stages for a batch of crops, each (N, H_i, W_i).

        Raises:
            RuntimeError: This batch failed; another may succeed.
            DeviceBroken: The device cannot compute any more in this process.
        """
        assert isinstance(self._network, Network)
        forked.check()
        try:
            with torch.cuda.stream(self._stream):
                crops = torch.from_numpy(crops_NHWC).to(self._mean_std[0].device)
                maps = self._network.activity(normalise(crops, self._mean_std))
                assert maps is not None, "a network without stages"
                return [stage_NHW.cpu().numpy() for stage_NHW in maps]
        except RuntimeError as error:
            self._check_device(error)
            raise

    def _in_chunks(self, size: int, items: Items) -> NDArray[np.float32]:
        starts = range(0, len(items), size)
        return np.concatenate([self.run([items[start : start + size]]) for start in starts])

    @torch.inference_mode()
    def _run_at(self, shape: int, parts: Sequence[Items]) -> NDArray[np.float32]:
        forked.check()
        item_shape = parts[0].shape[1:]
        staged = self._staging[: shape * math.prod(item_shape)].view(shape, *item_shape)
        staging = staged.numpy()
        filled = 0
        for part in parts:
            staging[filled : filled + len(part)] = part
            filled += len(part)
        with torch.cuda.stream(self._stream):
            compute = self._compute if self._stream is None else self._captured_for(staged)
            rows_ND: NDArray[np.float32] = compute(staged).cpu().numpy()
        return rows_ND[:filled]

    def _compute(self, items: Tensor) -> Tensor:
        return Prediction(*self._network(network_inputs(items, self._mean_std))).rows()

    def _captured_for(self, staged: Tensor) -> Captured:
        shape = tuple(staged.shape)
        if shape not in self._captured:
            self._captured[shape] = Captured(self._compute, shape, staged.dtype, self.device)
        return self._captured[shape]


def _is_out_of_memory(error: RuntimeError) -> bool:
    # On a CPU the error is a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def mean_std(contract: Contract, device: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the contract's normalisation, in units of 8-bit values, each (3,)."""
    return 255 * torch.tensor(contract.mean, device=device), 255 * torch.tensor(contract.std, device=device)


def network_inputs(items: Tensor, mean_std: tuple[Tensor, Tensor]) -> Tensor:
    """Inputs of a network for a batch of items: crops are normalised, tokens stay as they are."""
    return normalise(items, mean_std) if items.dtype == torch.uint8 else items


def normalise(crops_NHWC: Tensor, mean_std: tuple[Tensor, Tensor]) -> Tensor:
    """Convert uint8 crops (N, H, W, 3) to normalised fp32 ones (N, 3, H, W), channels last in memory."""
    mean, std = mean_std
    return crops_NHWC.float().sub_(mean).div_(std).permute(0, 3, 1, 2)


def resolve_device(device: str) -> str:
    """Resolve ``auto`` to ``cuda`` if there is a usable CUDA device, else ``cpu``; other names stay as they are.

    Raises:
        ValueError: The CUDA device does not exist.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device != "cpu" and (torch.device(device).index or 0) >= count:
        raise ValueError(f"device {device} was asked for, but this machine has {count or 'no'} usable CUDA devices")
    return device


def resolve_precision(precision: Precision, device: str, network: nn.Module) -> Literal["fp32", "bf16", "int8"]:
    """Resolve ``auto`` to the precision for a kind of device, ``cpu`` or ``cuda``.

    The choice follows a rule, not a measurement, so that every start on one machine gives the same scores.
    """
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # Matrix products gain from AMX tiles; depthwise convolutions do not, and networks built on them stay exact.
    depthwise = any(
        isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels for layer in network.modules()
    )
    # oneDNN may be held to fewer instructions than the CPU has, and would compute in fp32.
    tiles = torch.cpu._is_amx_tile_supported() and arithmetic(torch.bfloat16) == torch.bfloat16
    return "bf16" if tiles and not depthwise else "fp32"
