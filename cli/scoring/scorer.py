"""Loading a scorer for a command, and the settings that decide its scores."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.contract import Contract
    from model.crop_rounds import Crops
    from model.options import DeviceName, Precision
    from model.policies import Policy
    from model.score import ModelId
from model.scorer import Scorer


def load_scorer(
    folder: Path | None = None, *, device: "DeviceName" = "auto", precision: "Precision" = "auto", threads: int = 0
) -> "Scorer":
    """Load a checkpoint; on a CPU, set the process's threads and the batch size to what is fastest there.

    The first run with a checkpoint measures this for about three seconds, and later runs read it from a cache. Neither
    threads nor batch size change a score.

    Args:
        folder: The checkpoint; the default model if None.
        device: Where to compute.
        precision: What to compute in.
        threads: Threads on a CPU; 0 takes those of ``OMP_NUM_THREADS``, or else those that were measured.

    Raises:
        CheckpointError: The folder is not a usable checkpoint.
        ValueError: The device is not there.
    """
    import torch

    from model.inference import autotune
    from model.options import DEFAULT_CHECKPOINT
    from model.scorer import Scorer

    autotune.set_threads(threads)
    scorer = Scorer.load(folder or DEFAULT_CHECKPOINT, device=device, precision=precision)
    if scorer.engine.device == "cpu":
        fixed = torch.get_num_threads() if threads or os.environ.get("OMP_NUM_THREADS") else 0
        autotune.autotune(scorer.engine, scorer.model.digest, threads=fixed)
    return scorer


def score_settings(
    model: "ModelId",
    contract: "Contract",
    crops: "Crops",
    device: str,
    precision: str,
    policy: "Policy | None" = None,
    *,
    photos: bool = False,
) -> dict[str, Any]:
    """The settings that decide scores, as journals and jobs keep them: a run resumes only with the same ones.

    Args:
        model: The checkpoint.
        contract: Its contract.
        crops: Crops per picture.
        device: Device of the engine; which one of several GPUs does not matter.
        precision: Precision of the engine.
        policy: What decides about pictures, if anything does.
        photos: Whether what picking needs is kept.
    """
    return {
        "model": f"{model.name} {model.digest}",
        "contract": contract.id,
        "crops": crops,
        "precision": precision,
        "device": device.partition(":")[0],
        **({} if policy is None else {"policy": f"{policy.name} {policy.version}"}),
        **({"photos": True} if photos else {}),
    }
