"""CUDA graphs: a captured computation takes one kernel launch per batch instead of hundreds."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger("smart_iqa.engine")

WARM_UPS = 3
"""Runs before the capture, while libraries choose their kernels and allocate their workspaces."""


class Captured:
    """A computation that is captured for inputs of one shape.

    Args:
        compute: The computation, on tensors of the device; it must not synchronise.
        shape: Shape of its input.
        dtype: Type of its input.
        device: The CUDA device.
    """

    def __init__(
        self, compute: Callable[[Tensor], Tensor], shape: tuple[int, ...], dtype: torch.dtype, device: str
    ) -> None:
        self._input = torch.zeros(shape, dtype=dtype, device=device)
        self._compute = compute
        self._graph: torch.cuda.CUDAGraph | None = torch.cuda.CUDAGraph()
        beside = torch.cuda.Stream(device)
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                compute(self._input)
        torch.cuda.current_stream().wait_stream(beside)
        try:
            # Other threads may use the device during the capture.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._output = compute(self._input)
        except RuntimeError as error:
            log.warning("this network cannot be captured, each batch costs more launches: %s", error)
            self._graph = None

    def __call__(self, staged: Tensor) -> Tensor:
        """Copy an input from pinned memory and compute. The next call overwrites the output."""
        self._input.copy_(staged, non_blocking=True)
        if self._graph is None:
            return self._compute(self._input)
        self._graph.replay()
        return self._output
