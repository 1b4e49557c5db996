"""Checkpoints as single files for other runtimes: ONNX, or PyTorch's own ``torch.export``.

A file computes raw scores from pixels as the engine does in fp32, normalisation and calibration included. It also holds
the contract as text, which says how pictures become its input.
"""

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model import checkpoint
from model.checkpoint import Checkpoint
from model.contract import Contract
from model.inference.engine import Engine, mean_std, network_inputs
from model.networks.hyper import TargetNetwork
from model.views import Items

TOLERANCE = 1e-4
"""Largest difference from the engine, relative to the output or the length of the scale, whichever is larger."""
BATCHES = (1, 3)
"""Batch sizes with which a finished file is checked."""
EXAMPLES = 2
"""Batch size with which the network is traced: tracing would take 0 and 1 for constants."""
LARGEST = 2 * 10**9
"""Largest size of an ONNX file in bytes."""

Outputs = tuple[NDArray[np.float32], ...]
Run = Callable[[Items], Outputs]


@dataclass(frozen=True, kw_only=True)
class Format:
    """How to write a file, and how to run it, which proves it.

    Attributes:
        suffix: Suffix of its files.
        write: Writes a module, given example inputs, their dynamic shapes, the texts to keep and the file.
        open: Opens a file as a function from items to outputs.
    """

    suffix: str
    write: Callable[["Scores", Tensor, dict[int, Any], dict[str, str], Path], None]
    open: Callable[[Path], Run]


class Scores(nn.Module):
    """The module that is exported: from work items to raw scores.

    Args:
        loaded: The checkpoint. Its network is changed to compute in fp32 throughout.
    """

    def __init__(self, loaded: Checkpoint) -> None:
        super().__init__()
        self.network = loaded.network
        for layer in self.network.modules():
            if isinstance(layer, TargetNetwork):
                layer.precision = torch.float32
        self.contract = loaded.contract
        contract = loaded.contract
        self.outputs = [
            "score",
            *(["stage_weights"] if loaded.network.weighs_stages else []),
            *(["interval"] if contract.interval is not None else []),
            *(["defects"] if contract.defects else []),
            *(["description"] if contract.description else []),
        ]
        mean, std = mean_std(self.contract, "cpu")
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, items: Tensor) -> tuple[Tensor, ...]:
        """Score uint8 pictures or crops (N, height, width, 3) or float32 tokens (N, T, 3075).

        Returns:
            Raw scores (N,) on the scale of the training labels, and what else the network gives: see ``Prediction``.
        """
        inputs = network_inputs(items, (self.get_buffer("mean"), self.get_buffer("std")))
        score, *others = self.network(inputs)
        raw = self.contract.slope * score + self.contract.intercept
        return (raw, *(other for other in others if other is not None))


def export(
    folder: Path, format_: str, out: Path | None, *, replace: bool, size: tuple[int, int] | None = None
) -> tuple[Path, float]:
    """Write a checkpoint as one file, and compare the file's outputs with the engine's.

    Args:
        folder: The checkpoint.
        format_: A name in ``FORMATS``.
        out: The file; the checkpoint's name in the working folder if None.
        replace: Whether an existing file is replaced.
        size: Width and height of the pictures that the file takes, one of those that the contract has: exporters need
            to know it. The first if None.

    Returns:
        The file, and its largest difference from the engine, in the measure of ``TOLERANCE``.

    Raises:
        CheckpointError: The folder is not a checkpoint.
        ValueError: The format or the size is unknown, the file exists, or it cannot be made or is too far from the
            engine; then nothing is left of it.
    """
    if format_ not in FORMATS:
        raise ValueError(f"no format is called {format_!r}; there are {', '.join(FORMATS)}")
    kind = FORMATS[format_]
    loaded = checkpoint.load(folder)
    out = out or Path(f"{loaded.config.name}{kind.suffix}")
    if out.exists() and not replace:
        raise ValueError(f"{out} exists already; --force replaces it")
    weights = sum(value.nbytes for value in loaded.network.state_dict().values())
    if format_ == "onnx" and weights > LARGEST:
        raise ValueError(f"{folder}: {weights / 1e9:.1f} GB of weights do not fit an ONNX file, which ends at 2 GB")
    contract = loaded.contract
    shapes = _shapes(contract, size)
    expected = _expected(loaded, shapes)
    scores = Scores(loaded).eval()
    example = torch.from_numpy(contract.probe(EXAMPLES, shapes[0]))
    dynamic = {0: torch.export.Dim("batch")}
    if contract.view == "tokens":
        dynamic[1] = torch.export.Dim("tokens")
    texts = {
        "name": loaded.config.name,
        "digest": loaded.digest,
        "contract": json.dumps(contract.to_dict()),
        "outputs": json.dumps(scores.outputs),
    }
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent}: no such folder")
    staging = out.with_name(f".{out.stem}.exporting{kind.suffix}")
    try:
        with _quiet(), torch.inference_mode(False), torch.no_grad():
            kind.write(scores, example, dynamic, texts, staging)
        difference = _difference(kind.open(staging), expected, contract.scale.max - contract.scale.min)
    except (ImportError, OSError):
        raise
    except Exception as error:  # exporters and runtimes have exceptions of their own
        reason = next(iter(str(error).splitlines()), "")
        raise ValueError(f"{folder} cannot be written as {format_}: {type(error).__name__} {reason}") from error
    else:
        if not difference <= TOLERANCE:
            raise ValueError(f"the {format_} file differs from the engine by {difference:.1e} of the scale")
        os.replace(staging, out)
    finally:
        staging.unlink(missing_ok=True)
    return out, difference


def _shapes(contract: Contract, size: tuple[int, int] | None) -> Sequence[tuple[int, ...]]:
    """Shapes of items that a file takes, two at most: of pictures only one, for its size is fixed."""
    shapes = contract.item_shapes()[:2]
    if contract.view == "tokens" and size is None:
        return shapes
    chosen = shapes[0] if size is None else (*size[::-1], 3)
    if chosen not in contract.item_shapes():
        sizes = ", ".join(f"{width}x{height}" for height, width, *_ in contract.item_shapes())
        raise ValueError(f"pictures of {chosen[1]}x{chosen[0]} are not in the contract; there are {sizes}")
    return [chosen]


def _expected(loaded: Checkpoint, shapes: Sequence[tuple[int, ...]]) -> list[tuple[Items, Outputs]]:
    """Items of some shapes, and the engine's outputs for them."""
    engine = Engine(loaded.network, loaded.contract, device="cpu", precision="fp32")
    pairs: list[tuple[Items, Outputs]] = []
    for shape in shapes:
        for count in BATCHES:
            items = loaded.contract.probe(count, shape)
            rows_ND = engine.predict(items)
            raw_N = loaded.contract.raw(rows_ND[:, 0].astype(np.float64)).astype(np.float32)
            found = loaded.contract.columns(rows_ND)
            defects_ND = np.concatenate([found.probabilities_ND, found.severities_ND], axis=1)
            found_parts = found.stage_weights_NS, found.interval_NK, defects_ND, found.description_NK
            parts = (part.astype(np.float32) for part in found_parts)
            pairs.append((items, (raw_N, *(part for part in parts if part.shape[1]))))
    return pairs


def _difference(run: Run, expected: list[tuple[Items, Outputs]], scale: float) -> float:
    differences = []
    for items, outputs in expected:
        units = (scale, *(1.0 for _ in outputs[1:]))
        for output, wanted, unit in zip(run(items), outputs, units, strict=True):
            size = np.maximum(np.abs(wanted), unit)
            differences.append(np.max(np.abs(output - wanted) / size) if output.shape == wanted.shape else np.inf)
    return float(np.max(differences))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters: their progress on stdout, and warnings that are meant for their developers."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _write_onnx(module: Scores, example: Tensor, dynamic: dict[int, Any], texts: dict[str, str], out: Path) -> None:
    import onnxruntime  # noqa: F401 -- the check needs it, so its absence shows before the export
    import onnxscript  # noqa: F401

    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        input_names=[module.contract.view],
        output_names=module.outputs,
        dynamic_shapes=(dynamic,),
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(texts)
    program.save(out, external_data=False)


def _open_onnx(file: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    [graph_input] = session.get_inputs()
    return lambda items: tuple(session.run(None, {graph_input.name: items}))


def _write_program(module: Scores, example: Tensor, dynamic: dict[int, Any], texts: dict[str, str], out: Path) -> None:
    program = torch.export.export(module, (example,), dynamic_shapes=(dynamic,))
    torch.export.save(program, out, extra_files=texts)


def _open_program(file: Path) -> Run:
    module = torch.export.load(file).module()

    @torch.inference_mode()
    def run(items: Items) -> Outputs:
        return tuple(output.numpy() for output in module(torch.from_numpy(items)))

    return run


FORMATS = {
    "onnx": Format(suffix=".onnx", write=_write_onnx, open=_open_onnx),
    "torch-export": Format(suffix=".pt2", write=_write_program, open=_open_program),
}
