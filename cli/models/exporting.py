"""Checkpoints as single files for other runtimes: ONNX, or PyTorch's own ``torch.export``.

A file holds what the engine computes in fp32 between pixels and raw scores, normalisation and calibration included, and
the contract as text, which says how pictures become its input.
"""

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model import checkpoint
from model.checkpoint import Checkpoint
from model.contract import Items
from model.inference.engine import Engine, mean_std, network_inputs
from model.networks.hyper import TargetNetwork

TOLERANCE = 1e-4
"""Largest difference from the engine, relative to the answer or the length of the scale, whichever is larger."""
BATCHES = (1, 3)
"""Numbers of items that a finished file is tried with."""
EXAMPLES = 2
"""Items that the network is traced with: of 0 and 1 tracing would make constants."""
LARGEST = 2 * 10**9
"""Bytes that fit an ONNX file."""

Answers = tuple[NDArray[np.float32], ...]
Run = Callable[[Items], Answers]


@dataclass(frozen=True, kw_only=True)
class Format:
    """How to write a file, and how to run it again for proof.

    Attributes:
        suffix: What its file names end in.
        write: Writes a module, given examples of its input, their dynamic shapes and the texts to keep.
        open: From a file to a function of items.
    """

    suffix: str
    write: Callable[["Scores", Tensor, dict[int, Any], dict[str, str], Path], None]
    open: Callable[[Path], Run]


class Scores(nn.Module):
    """A checkpoint from work items to raw scores.

    Args:
        loaded: The checkpoint. Its network is changed: it computes in fp32 throughout.
    """

    def __init__(self, loaded: Checkpoint) -> None:
        super().__init__()
        self.network = loaded.network
        for layer in self.network.modules():
            if isinstance(layer, TargetNetwork):
                layer.precision = torch.float32
        self.contract = loaded.contract
        self.outputs = ["score", "stage_weights"] if loaded.network.weighs_stages else ["score"]
        mean, std = mean_std(self.contract, "cpu")
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, items: Tensor) -> tuple[Tensor, ...]:
        """Score uint8 crops (N, size, size, 3) or float32 tokens (N, T, 3075).

        Returns:
            Raw scores (N,) on the scale of the training labels, and the stage weights (N, 4) of networks that have any.
        """
        inputs = network_inputs(items, (self.get_buffer("mean"), self.get_buffer("std")))
        score, stage_weights = self.network(inputs)
        raw = self.contract.slope * score + self.contract.intercept
        return (raw,) if stage_weights is None else (raw, stage_weights)


def export(folder: Path, format_: str, out: Path | None, *, replace: bool) -> tuple[Path, float]:
    """Write a checkpoint as one file, and prove the file against the engine.

    Args:
        folder: The checkpoint.
        format_: One of ``FORMATS``.
        out: The file; the checkpoint's name in the working folder if None.
        replace: Whether it may exist.

    Returns:
        The file, and its largest difference from the engine, see ``TOLERANCE``.

    Raises:
        CheckpointError: The folder is not a checkpoint.
        ValueError: The format is unknown, the file exists or cannot be proven. Nothing is left of it then.
    """
    if format_ not in FORMATS:
        raise ValueError(f"no format is called {format_!r}; there are {', '.join(FORMATS)}")
    kind = FORMATS[format_]
    loaded = checkpoint.load(folder)
    out = out or Path(f"{loaded.config.name}{kind.suffix}")
    if out.exists() and not replace:
        raise ValueError(f"{out} exists already; --force replaces it")
    size = sum(value.nbytes for value in loaded.network.state_dict().values())
    if format_ == "onnx" and size > LARGEST:
        raise ValueError(f"{folder}: {size / 1e9:.1f} GB of weights do not fit an ONNX file, which ends at 2 GB")
    expected = _expected(loaded)
    scores = Scores(loaded).eval()
    contract = loaded.contract
    example = torch.from_numpy(contract.probe(EXAMPLES, contract.item_shapes()[0]))
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


def _expected(loaded: Checkpoint) -> list[tuple[Items, Answers]]:
    """Items of two shapes, where there are two, and what the engine answers to them."""
    engine = Engine(loaded.network, loaded.contract, device="cpu", precision="fp32")
    pairs: list[tuple[Items, Answers]] = []
    for shape in loaded.contract.item_shapes()[:2]:
        for count in BATCHES:
            items = loaded.contract.probe(count, shape)
            rows_ND = engine.predict(items)
            raw_N = loaded.contract.raw(rows_ND[:, 0].astype(np.float64)).astype(np.float32)
            pairs.append((items, (raw_N, rows_ND[:, 1:]) if rows_ND.shape[1] > 1 else (raw_N,)))
    return pairs


def _difference(run: Run, expected: list[tuple[Items, Answers]], scale: float) -> float:
    differences = []
    for items, answers in expected:
        for found, answer, unit in zip(run(items), answers, (scale, 1.0)[: len(answers)], strict=True):
            size = np.maximum(np.abs(answer), unit)
            differences.append(np.max(np.abs(found - answer) / size) if found.shape == answer.shape else np.inf)
    return float(np.max(differences))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' talk to themselves: progress on stdout, advice to their own developers as warnings."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _write_onnx(module: Scores, example: Tensor, dynamic: dict[int, Any], texts: dict[str, str], out: Path) -> None:
    import onnxruntime  # noqa: F401 -- without it nothing could be proven, so it is missed before the work
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
    (name,) = (one.name for one in session.get_inputs())
    return lambda items: tuple(session.run(None, {name: items}))


def _write_program(module: Scores, example: Tensor, dynamic: dict[int, Any], texts: dict[str, str], out: Path) -> None:
    program = torch.export.export(module, (example,), dynamic_shapes=(dynamic,))
    torch.export.save(program, out, extra_files=texts)


def _open_program(file: Path) -> Run:
    module = torch.export.load(file).module()

    @torch.inference_mode()
    def run(items: Items) -> Answers:
        return tuple(answer.numpy() for answer in module(torch.from_numpy(items)))

    return run


FORMATS = {
    "onnx": Format(suffix=".onnx", write=_write_onnx, open=_open_onnx),
    "torch-export": Format(suffix=".pt2", write=_write_program, open=_open_program),
}
