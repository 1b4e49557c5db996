"""The training loop: from a recipe and a data set to a checkpoint that the service loads.

    smart-iqa train training/recipes/smart-mobile-biq2021.toml --root BIQ2021 --out runs/mobile

A run folder holds ``recipe.json``, ``split.json``, ``metrics.jsonl``, ``state.pt`` (to go on after an interruption) and
``checkpoint/`` (the epoch that was best on the validation split).
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from model import checkpoint, golden, registry
from model.contract import Contract
from model.engine import mean_std, normalise
from model.scorer import Scorer
from training import card, datasets, splits
from training.crops import RandomCrops
from training.evaluator import evaluate
from training.recipe import Recipe

RECIPE = "recipe.json"
SPLIT = "split.json"
METRICS = "metrics.jsonl"
STATE = "state.pt"


def train(recipe: Recipe, root: Path, out: Path, *, init: Path | None = None, workers: int = 1) -> Path:
    """Train, or go on where an interrupted run of the same recipe stopped.

    Args:
        recipe: What to do.
        root: The data set.
        out: The run folder.
        init: Backbone weights to start from, a safetensors file with timm's names; fetched from timm's hub if None.
        workers: Processes that decode.

    Returns:
        The folder of the finished checkpoint.

    Raises:
        DatasetError: The data are not as they should be.
        ValueError: The run folder belongs to another recipe, the initial weights do not fit, or the loss is
            not a number.
    """
    console = Console(stderr=True)
    dataset = datasets.read(recipe.dataset, root)
    _claim(out, recipe, init)
    split = splits.make(dataset, validation_share=recipe.validation_share, seed=recipe.seed)
    if (out / SPLIT).exists() and splits.load(out / SPLIT) != split:
        raise ValueError(f"{out} holds a run on other pictures of {root}; choose another folder")
    splits.save(split, out / SPLIT)
    validation = splits.select(dataset, split.validation)
    contract = Contract(
        resize=recipe.resize, width=recipe.width, height=recipe.height, crops=recipe.crops, scale=dataset.scale
    )
    crops = RandomCrops(splits.select(dataset, split.train), contract, count=recipe.crops_per_picture, seed=recipe.seed)
    steps = math.ceil(len(crops) / recipe.batch_pictures)

    torch.manual_seed(recipe.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    resumed = (out / STATE).exists()
    network = registry.build(recipe.network, pretrained=init is None and not resumed)
    if init is not None:
        load_backbone(network, init)
    network.to(device).to(memory_format=torch.channels_last)
    optimizer = _optimizer(network, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, _warmup_cosine(round(recipe.warmup_epochs * steps), recipe.epochs * steps)
    )
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))
    kept = average.module
    assert isinstance(kept, registry.Network)
    first, best = 1, -math.inf
    lines: list[dict[str, float]] = []
    if resumed:
        state = torch.load(out / STATE, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first, best, lines = state["epoch"] + 1, state["best"], state["metrics"]
    statistics = mean_std(contract, device)

    for epoch in range(first, recipe.epochs + 1):
        # Each epoch has its own seed, so a resumed run draws what an uninterrupted one would have drawn.
        torch.manual_seed(recipe.seed + 1_000_003 * epoch)
        crops.epoch = epoch
        loader = DataLoader(crops, recipe.batch_pictures, shuffle=True, num_workers=workers)
        _train_mode(network, recipe)
        total = 0.0
        for crops_PNHWC, mos_PN in track(loader, f"epoch {epoch}/{recipe.epochs}", console=console):
            crops_NHWC = crops_PNHWC.flatten(0, 1).to(device, non_blocking=True)
            prediction = network(normalise(crops_NHWC, statistics))
            loss = F.l1_loss(prediction.score, mos_PN.flatten().to(device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
            optimizer.step()
            schedule.step()
            average.update_parameters(network)
            total += loss.item()
            if not math.isfinite(total):
                raise ValueError(f"the loss is not a number in epoch {epoch}; a lower head_lr may help")

        _save(out / "candidate", kept, recipe, contract)
        agreement = evaluate(Scorer.load(out / "candidate"), validation, crops=recipe.validation_crops).agreement
        if agreement.srcc > best:
            best = agreement.srcc
            _save(out / "best", kept, recipe, contract)
        lines.append({"epoch": epoch, "loss": round(total / len(loader), 5), **agreement.to_dict()})
        console.print(lines[-1])
        _save_state(
            out / STATE,
            {
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "epoch": epoch,
                "best": best,
                "metrics": lines,
            },
        )
        (out / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return _finish(out, recipe, split, validation, init)


def load_backbone(network: registry.Network, file: Path) -> None:
    """Load a safetensors file of a whole timm network into the backbone, without the layers after its last level.

    Raises:
        ValueError: The file lacks weights of the backbone.
    """
    own = network.backbone.features.state_dict()
    weights = load_file(file)
    # Checkpoints from before batch norms counted their batches lack the counters, which nothing reads.
    absent = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    if absent:
        raise ValueError(f"{file}: lacks {absent[0]} and {len(absent) - 1} other weights of the backbone")
    network.backbone.features.load_state_dict({name: weights.get(name, own[name]) for name in own})


def _claim(out: Path, recipe: Recipe, init: Path | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    start = hashlib.sha256(init.read_bytes()).hexdigest() if init else None
    text = json.dumps({**dataclasses.asdict(recipe), "init_sha256": start}, indent=2) + "\n"
    file = out / RECIPE
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise ValueError(f"{out} holds a run of another recipe or from other weights; choose another folder")
    file.write_text(text, encoding="utf-8")


def _optimizer(network: registry.Network, recipe: Recipe) -> torch.optim.AdamW:
    for name, parameter in network.backbone.features.named_parameters():
        parameter.requires_grad_(not name.startswith(recipe.frozen))
    backbone = [parameter for parameter in network.backbone.parameters() if parameter.requires_grad]
    backbone_ids = {id(parameter) for parameter in network.backbone.parameters()}
    head = [parameter for parameter in network.parameters() if id(parameter) not in backbone_ids]
    groups = [{"params": backbone, "lr": recipe.backbone_lr}, {"params": head, "lr": recipe.head_lr}]
    return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)


def _warmup_cosine(warmup: int, total: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))

    return factor


def _train_mode(network: registry.Network, recipe: Recipe) -> None:
    network.train()
    if recipe.freeze_bn:
        for layer in network.backbone.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()


def _save(folder: Path, network: registry.Network, recipe: Recipe, contract: Contract, **about: Any) -> None:
    name = f"{recipe.network}-{recipe.dataset}"
    checkpoint.save(folder, network, name=name, contract=contract, **{"card": "", **about})


def _save_state(file: Path, state: dict[str, Any]) -> None:
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, file)


def _finish(
    out: Path, recipe: Recipe, split: splits.Split, validation: list[datasets.Sample], init: Path | None
) -> Path:
    """Measure the best epoch with the contract's crops, and write it with its card, split and golden scores."""
    best = Scorer.load(out / "best", precision="fp32")
    agreement = evaluate(best, validation).agreement
    contract = best.checkpoint.contract
    folder = out / "checkpoint"
    text = card.write(
        recipe,
        contract,
        agreement,
        trained=len(split.train),
        validated=len(split.validation),
        init=f"`{init.name}`" if init else "timm's ImageNet weights",
    )
    _save(
        folder,
        best.checkpoint.network.cpu(),
        recipe,
        contract,
        card=text,
        trained_on=f"{recipe.dataset}, {len(split.train)} pictures",
        licence="of the training data; see card.md",
        figures={f"{recipe.dataset}-validation": {"pictures": float(len(validation)), **agreement.to_dict()}},
    )
    splits.save(split, folder / SPLIT)
    golden.write(Scorer.load(folder, precision="fp32"))
    return folder
