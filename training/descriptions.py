"""Descriptions of photos by the statistics of a network's feature maps, and the fit of heads that read them."""

import copy
import math
from collections.abc import Callable, Sized
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import Dataset

from model.contract import Contract
from model.inference.engine import mean_std, network_inputs
from model.networks.findings import Statistics
from model.networks.smart import SmartIQA
from training.bn_folding import fold_batch_norms
from training.loading import batches, watched

BATCH_ITEMS = 16
"""Items that are described at a time."""
BATCH = 64
"""Descriptions in a step of a fit."""
EPOCHS = 30
RATE = 2e-3
WEIGHT_DECAY = 1e-3
NOISE = 0.3
"""Noise that a fit adds to each number of a description, in standard deviations."""


def describe(
    network: SmartIQA,
    contract: Contract,
    items: Dataset[NDArray[np.uint8]],
    *,
    decoders: int,
    title: str,
    deepest: bool = False,
) -> Tensor:
    """Describe items by the statistics of their feature maps, before those are brought to a common scale.

    Args:
        network: A network with heads, in evaluation mode.
        contract: Gives the normalisation.
        items: Items of the contract by number, (H, W, 3).
        decoders: Processes that make the items.
        title: What is described, for the progress bar.
        deepest: Whether to describe the deepest map as well, which heads do not read.

    Returns:
        The descriptions in order (N, I), on the CPU.

    Raises:
        TrainingError: The decoders gave up.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = copy.deepcopy(network).requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    channels = network.backbone.finer_channels + network.backbone.channels
    last = len(channels) if deepest else -1
    statistics = Statistics(channels[:last]).to(device)
    # In evaluation mode all batch norms are fixed, and without gradients everything runs in its inference form.
    twin = fold_batch_norms(network)
    assert isinstance(twin, SmartIQA)
    normalisation = mean_std(contract, str(device))
    made = batches(items, list, decoders=decoders, batch_size=BATCH_ITEMS)
    total = math.ceil(len(cast(Sized, items)) / BATCH_ITEMS)
    parts = []
    with torch.inference_mode(), watched():
        for batch in track(made, title, total=total, console=Console(stderr=True)):
            described_NI = torch.empty(len(batch), statistics.length)
            for shape in dict.fromkeys(item.shape for item in batch):
                places = [place for place, item in enumerate(batch) if item.shape == shape]
                stacked = torch.from_numpy(np.stack([batch[place] for place in places])).to(device)
                maps = twin.backbone(network_inputs(stacked, normalisation))
                described_NI[places] = statistics(maps[:last]).cpu()
            parts.append(described_NI)
    return torch.cat(parts)


def fit(head: nn.Module, described_NI: Tensor, loss: Callable[[Tensor, Tensor], Tensor], *, seed: int) -> None:
    """Train a head on descriptions.

    Args:
        head: The head; it is changed.
        described_NI: Descriptions on a common scale.
        loss: Of some descriptions (B, I), to which noise was added, and of their places among all (B,).
        seed: Seed of order and noise.
    """
    count = len(described_NI)
    steps = max(count // BATCH, 1)
    head.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    schedule = OneCycleLR(optimizer, max_lr=RATE, total_steps=EPOCHS * steps + 1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        order = torch.randperm(count, generator=generator)
        for places in order[: steps * BATCH].chunk(steps):
            noisy_BI = described_NI[places]
            noisy_BI = noisy_BI + NOISE * torch.randn(noisy_BI.shape, generator=generator)
            optimizer.zero_grad()
            loss(noisy_BI, places).backward()
            optimizer.step()
            schedule.step()
    head.requires_grad_(False)
