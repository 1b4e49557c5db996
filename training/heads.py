"""Training of the heads beside the score: defects, and the interval around the score.

    smart-iqa heads runs/final/checkpoint runs/heads --root BIQ2021 --folds runs/folds

The rest of the network stays as it is, and so do its scores. The head for defects learns from photos that defects are
added to, the one for intervals from the scores that the runs of a cross-validation gave to photos that they were not
trained on. What the first of those runs was tested on teaches no defects, so that they can be looked for in it.
A checkpoint that has heads can learn its defects anew, by another kind of them say, and keep all other heads.
"""

import dataclasses
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from model import checkpoint, golden
from model.checkpoint import Checkpoint
from model.contract import Contract
from model.defects import DEFECTS
from model.interval import Interval
from model.networks.findings import DefectHead, DescriptionHead
from model.networks.smart import SmartIQA
from model.scorer import Scorer
from training import card, cross_validation, datasets, intervals, provenance, splits
from training.datasets import DatasetError, Sample
from training.descriptions import describe, fit
from training.errors import TrainingError
from training.examples import Examples
from training.intervals import Coverage, Scored
from training.preferences import Bin
from training.run import SPLIT

CROPS = 3
"""Crops of the contract: the whole view, and close looks at large photos."""
DESCRIPTION = 64
"""Numbers of a description. From fifty labels, a taste is learned as well from 64 as from more."""
VISIBLE = 0.15
"""Severity from which a defect counts as there; less of it may be there or not."""
SEVERITY_WEIGHT = 0.6
"""Weight of the squared distance of severities beside the cross-entropy: makes both about as large."""
STAGING = "finishing"


class Described(NamedTuple):
    """Descriptions of N photos: statistics on a common scale, and means of the deepest map."""

    statistics_NI: Tensor
    deepest_NC: Tensor


class Photos(Dataset[NDArray[np.uint8]]):
    """The whole views of photos.

    Args:
        samples: The photos.
        contract: A contract of whole views.
    """

    def __init__(self, samples: Sequence[Sample], contract: Contract) -> None:
        self._samples, self._contract = samples, contract

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, place: int) -> NDArray[np.uint8]:
        """The whole view of a photo, (H, W, 3)."""
        picture = self._contract.decode(self._samples[place].path.read_bytes())
        return np.array(self._contract.resized(picture))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How heads are trained.

    Attributes:
        folds: Folder of a sweep over folds of the checkpoint's recipe, for the interval; None for no interval.
        held_back: A split file whose test photos teach no defects; None for those of the first of the folds, if any.
        left_out: Sources of the data set whose labels do not tell which photos are good.
        examples: Photos with defects, and without, to learn from.
        seed: Seed of the examples and the fits.
        decoders: Processes that make the examples.
    """

    folds: Path | None = None
    held_back: Path | None = None
    left_out: tuple[str, ...] = ()
    examples: int = 28000
    seed: int = 20
    decoders: int = 1


def train(folder: Path, root: Path, out: Path, settings: Settings) -> tuple[list[Coverage], list[Bin]]:
    """Add heads to a checkpoint.

    Args:
        folder: The checkpoint, trained on whole views; heads that it has are replaced.
        root: The data set that it was trained on.
        out: Folder of the new checkpoint. Its scores are those of the old one.
        settings: How.

    Returns:
        How well the intervals hold on photos that were not trained on, and what is stated of pairs of them; empty
        without folds.

    Raises:
        DatasetError: The data set is not the checkpoint's.
        TrainingError: The checkpoint cannot be written.
        ValueError: The checkpoint has no whole views or no split, or its network cannot have heads.
    """
    loaded, dataset, trained_on = _read(folder, root)
    if settings.folds is not None:
        cross_validation.check(settings.folds, loaded.config.network, dataset)
    tables = None if settings.folds is None else cross_validation.predictions(settings.folds)
    sources = () if tables is None else tuple(sorted({*pd.concat(tables)["source"]}))
    torch.manual_seed(settings.seed)
    network = with_heads(loaded, len(sources), DESCRIPTION)
    contract = dataclasses.replace(
        loaded.contract,
        crops=CROPS,
        defects=DEFECTS,
        interval=Interval(below=(1.0,) * len(sources), above=(1.0,) * len(sources)) if sources else None,
        description=DESCRIPTION,
    )
    tested = () if tables is None else tables[0]["name"]
    learn_defects(network, contract, _examples(dataset, trained_on, contract, settings, tested), settings)
    coverage: list[Coverage] = []
    reliability: list[Bin] = []
    if tables is None:
        learn_description(network, describe_photos(network, contract, trained_on, settings))
    else:
        by_name = {sample.name: sample for sample in dataset.samples}
        scored = _scored(network, contract, tables, by_name, settings)
        assert network.interval is not None
        interval, coverage, reliability = intervals.train(network.interval, scored, contract, seed=settings.seed)
        contract = dataclasses.replace(contract, interval=interval)
    text = card.with_heads(_card(folder), card.Heads(coverage, reliability, settings.examples))
    _write(out, loaded, network, contract, text)
    return coverage, reliability


def train_defects(folder: Path, root: Path, out: Path, settings: Settings) -> None:
    """Train the head for defects anew, and keep all others.

    Args:
        folder: A checkpoint that finds defects.
        root: The data set that it was trained on.
        out: Folder of the new checkpoint. Its scores, intervals and descriptions are those of the old one.
        settings: How.

    Raises:
        DatasetError: The data set is not the checkpoint's, or ``settings.held_back`` is no split.
        TrainingError: The checkpoint cannot be written.
        ValueError: The checkpoint finds no defects, or has no split.
    """
    loaded, dataset, trained_on = _read(folder, root)
    network = loaded.network
    if not isinstance(network, SmartIQA) or network.statistics is None or not loaded.contract.defects:
        raise ValueError(f"{folder} finds no defects; smart-iqa heads without --defects-only adds all heads")
    torch.manual_seed(settings.seed)
    network.defects = DefectHead(network.statistics.length).eval()
    examples = _examples(dataset, trained_on, loaded.contract, settings)
    learn_defects(network, loaded.contract, examples, settings, keep_scale=True)
    _write(out, loaded, network, loaded.contract, card.with_defects(_card(folder), settings.examples))


def _read(folder: Path, root: Path) -> tuple[Checkpoint, datasets.Dataset, list[Sample]]:
    """A checkpoint, its data set, and the photos of it that it was trained on.

    Raises:
        DatasetError: The data set is not the checkpoint's.
        ValueError: The checkpoint has no whole views, or no split.
    """
    loaded = checkpoint.load(folder)
    if loaded.contract.view != "whole" or not (folder / SPLIT).is_file():
        raise ValueError(f"{folder} must be of whole views, and from smart-iqa train: heads need its {SPLIT}")
    split = splits.load(folder / SPLIT)
    name = datasets.recognise(root) or split.dataset
    dataset = datasets.read(name, root, datasets.learned_column(loaded.contract.scale, name))
    samples = splits.select(dataset, [*split.train, *split.validation, *split.test])
    noted = splits.pictures_digest(folder / SPLIT)
    if noted and noted != provenance.look(samples, dataset.scale).digest:
        raise DatasetError(f"{root} holds other labels or pictures than those that {folder} was trained on")
    return loaded, dataset, splits.select(dataset, split.train)


def _card(folder: Path) -> str:
    return (folder / checkpoint.CARD).read_text(encoding="utf-8")


def _examples(
    dataset: datasets.Dataset,
    trained_on: Sequence[Sample],
    contract: Contract,
    settings: Settings,
    tested: Iterable[str] = (),
) -> Examples:
    """What the head for defects learns from: nothing of what was tested, or is held back."""
    held_back = {*tested, *(splits.load(settings.held_back).test if settings.held_back else ())}
    learned = [sample for sample in trained_on if sample.name not in held_back]
    comparable = datasets.without(dataset, learned, settings.left_out)
    return Examples(comparable, contract, settings.examples, settings.seed)


def with_heads(loaded: Checkpoint, kinds: int, description: int = 0) -> SmartIQA:
    """A checkpoint's network with untrained heads beside its score.

    Args:
        loaded: The checkpoint; heads that it has are left behind.
        kinds: Kinds of photos that the interval tells apart; 0 for no interval.
        description: Numbers of a description; 0 for none.

    Raises:
        ValueError: The network's family has no heads.
    """
    if not isinstance(loaded.network, SmartIQA):
        raise ValueError(f"{loaded.folder}: a {type(loaded.network).__name__} cannot have heads beside its score")
    made = SmartIQA(dataclasses.replace(loaded.network.config, defects=True, kinds=kinds, description=description))
    old = loaded.network.state_dict()
    heads = ("statistics.", "defects.", "interval.", "description.")
    kept = {name: old.get(name, value) for name, value in made.state_dict().items() if not name.startswith(heads)}
    made.load_state_dict(kept, strict=False)
    return made.eval().requires_grad_(False)


def learn_defects(
    network: SmartIQA, contract: Contract, examples: Examples, settings: Settings, *, keep_scale: bool = False
) -> None:
    """Train the head for defects, and bring descriptions to a common scale.

    Args:
        network: The network; its head for defects is changed.
        contract: Gives the normalisation.
        examples: What it learns from.
        settings: Give the seed and the decoders.
        keep_scale: Whether descriptions have their common scale already, which other heads were trained with.
    """
    described_NI = describe(network, contract, examples, decoders=settings.decoders, title="photos with defects")
    severities_ND = torch.from_numpy(examples.severities_ND)
    statistics, head = network.statistics, network.defects
    assert statistics is not None
    assert isinstance(head, DefectHead)
    if not keep_scale:
        statistics.mean.copy_(described_NI.mean(dim=0))
        statistics.scale.copy_(described_NI.std(dim=0).clamp_min(1e-3))

    def loss(noisy_BI: Tensor, places: Tensor) -> Tensor:
        odds_BD, guessed_BD = head.parts(noisy_BI)
        severities_BD = severities_ND[places]
        there_BD = severities_BD > 0
        told_BD = ~there_BD | (severities_BD >= VISIBLE)
        probability = F.binary_cross_entropy_with_logits(odds_BD[told_BD], there_BD[told_BD].float())
        distance = ((guessed_BD - severities_BD).square() * there_BD).sum() / there_BD.sum().clamp_min(1)
        return probability + SEVERITY_WEIGHT * distance

    fit(head, (described_NI - statistics.mean) / statistics.scale, loss, seed=settings.seed)


def describe_photos(network: SmartIQA, contract: Contract, samples: Sequence[Sample], settings: Settings) -> Described:
    """Describe the whole views of photos by everything that heads read."""
    photos = Photos(samples, contract)
    described_NJ = describe(network, contract, photos, decoders=settings.decoders, title="photos", deepest=True)
    assert network.statistics is not None
    # Means of all maps, their deviations, the size: of the deepest map, which comes last, the means alone are read.
    deepest = network.backbone.channels[-1]
    others = network.statistics.length // 2
    means_NC, last_NC, deviations_NC, _, size_N1 = described_NJ.split([others, deepest, others, deepest, 1], dim=1)
    statistics_NI = torch.cat([means_NC, deviations_NC, size_N1], dim=1)
    return Described((statistics_NI - network.statistics.mean) / network.statistics.scale, last_NC)


def learn_description(network: SmartIQA, photos: Described) -> None:
    """Choose the principal components that describe pictures, after the statistics have their common scale."""
    head = network.description
    assert isinstance(head, DescriptionHead)
    together_NJ = torch.cat(photos, dim=1).double()
    # The deepest map, too, is brought to the common scale, by the weights that read it.
    scale_J = torch.ones(together_NJ.shape[1], dtype=torch.float64)
    scale_J[photos.statistics_NI.shape[1] :] = photos.deepest_NC.double().std(dim=0).clamp_min(1e-3)
    mean_J = together_NJ.mean(dim=0)
    centred_NJ = (together_NJ - mean_J) / scale_J
    _, components_JJ = torch.linalg.eigh(centred_NJ.T @ centred_NJ)
    chosen_KJ = components_JJ.flip(1)[:, : head.components.out_features].T
    # The largest weight of each is positive, so that machines do not differ in signs.
    chosen_KJ = chosen_KJ * chosen_KJ.gather(1, chosen_KJ.abs().argmax(dim=1, keepdim=True)).sign()
    spread = (centred_NJ @ chosen_KJ[0]).std()
    weight_KJ = chosen_KJ / scale_J / spread
    head.components.weight.copy_(weight_KJ)
    head.components.bias.copy_(-weight_KJ @ mean_J)


def _scored(
    network: SmartIQA, contract: Contract, tables: list[pd.DataFrame], by_name: dict[str, Sample], settings: Settings
) -> Scored:
    """Describe the photos of a cross-validation, with the scores of its runs; and learn how to describe photos.

    Raises:
        ValueError: The runs are of other photos.
    """
    together = pd.concat([table.assign(fold=fold) for fold, table in enumerate(tables)])
    if unknown := {*together["name"]} - {*by_name}:
        raise ValueError(f"the data set has no {min(unknown)}, which a fold was tested on")
    samples = [by_name[name] for name in together["name"]]
    photos = describe_photos(network, contract, samples, settings)
    learn_description(network, photos)
    names, kinds_N = np.unique(together["source"].to_numpy(str), return_inverse=True)
    return Scored(
        described_NI=photos.statistics_NI,
        outputs_N=(together["prediction"].to_numpy() - contract.intercept) / contract.slope,
        labels_N=(together["mos"].to_numpy() - contract.intercept) / contract.slope,
        kinds_N=kinds_N,
        folds_N=together["fold"].to_numpy(),
        kind_names=[str(name) for name in names],
        comparable_N=~together["source"].isin(settings.left_out).to_numpy(bool),
    )


def _write(
    out: Path,
    loaded: Checkpoint,
    network: SmartIQA,
    contract: Contract,
    text: str,
) -> None:
    """Write the checkpoint beside its place, and move it there when it is complete."""
    config, folder = loaded.config, loaded.folder
    staging = out.with_name(f"{out.name}.{STAGING}")
    try:
        checkpoint.save(
            staging,
            network,
            name=config.name,
            contract=contract,
            card=text,
            trained_on=config.trained_on,
            licence=config.licence,
            figures=config.figures,
            half=checkpoint.is_half(folder),
        )
        shutil.copy(folder / SPLIT, staging)
        golden.write(Scorer.load(staging, device="cpu", precision="fp32"))
        checkpoint.replace(staging, out)
    except OSError as error:
        raise TrainingError(f"{out} cannot be written: {error.strerror}") from error
