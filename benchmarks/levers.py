"""What each choice behind the default checkpoint's score is worth, on frozen features: ``python -m benchmarks.levers``.

    python -m benchmarks.levers --data BIQ2021 --out runs/levers \
        tf_efficientnet_lite0=lite0.safetensors mobilenetv2_100=mobilenetv2_100.safetensors \
        tf_efficientnet_lite2=lite2.safetensors

Photos are described by means and standard deviations of all feature maps of a backbone that only ImageNet taught. A
perceptron learns scores from that, and is tested by five-fold cross-validation; one thing is changed at a time. It
takes seconds where training the network takes an hour, so every row is of all folds. The figures are lower than
trained networks'; what counts are the differences, on the same photos. Each is given with its 95 % interval, by the
bootstrap over photos within folds. Photos of the sources in ``--left-out`` are neither learned from nor tested, but for
the rows that say so. Descriptions are kept in ``--out``. It prints a table and writes
``benchmarks/results/levers.json``.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats
from torch import Tensor, nn
from torch.utils.data import Dataset

from model.contract import Contract
from model.defects import DEFECTS
from model.networks import registry
from model.networks.smart import SmartIQA
from training import datasets, initial_weights, losses, recipe, splits
from training.datasets import Sample
from training.descriptions import describe, fit
from training.examples import Examples
from training.heads import Photos

RESULTS = Path(__file__).parent / "results" / "levers.json"
RECIPE = Path("smart-lite-biq2021")
STATISTICS = {"mobilenetv2_100": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
"""Mean and standard deviation of pixels of backbones that differ from the recipe's."""
CLEAR = "ss03"
"""The source whose photos everybody may use."""
EXAMPLES = 6000
"""Photos with defects added."""
HIDDEN = 320
FOLDS = 5
BINS = 20
"""Bins of a distribution of labels."""
RATERS_SPREAD = 0.06
"""Standard deviation of the mean label of thirty raters, about, on a scale of 1."""
RESAMPLES = 500


@dataclass(frozen=True, kw_only=True)
class Lever:
    """One way to learn scores.

    Attributes:
        what: What is changed, in words.
        features: Which descriptions are read: backbone and view.
        sources: Which sources' photos are learned from: ``comparable`` (not those left out), ``all``, ``scaled``
            (all, with a factor and an offset for each source that was left out), or the name of one.
        loss: How scores are compared with labels.
        opinion: Share of another fold's opinion in the label.
        defects: Whether to learn the severities of added defects, which need no labels: ``before`` the score, or
            ``beside`` it.
    """

    what: str
    features: str
    sources: str = "comparable"
    loss: str = "l1"
    opinion: float = 0.0
    defects: Literal["", "before", "beside"] = ""


class Crops(Dataset[NDArray[np.uint8]]):
    """Four crops of each photo, one after another.

    Args:
        samples: The photos.
        contract: A contract of four crops.
    """

    def __init__(self, samples: Sequence[Sample], contract: Contract) -> None:
        self._samples, self._contract = samples, contract

    def __len__(self) -> int:
        return len(self._samples) * self._contract.crops

    def __getitem__(self, place: int) -> NDArray[np.uint8]:
        """One crop of one photo."""
        sample, crop = divmod(place, self._contract.crops)
        picture = self._contract.decode(self._samples[sample].path.read_bytes())
        crops_NHWC = self._contract.views(picture).items
        return np.asarray(crops_NHWC[min(crop, len(crops_NHWC) - 1)], np.uint8)


class Perceptron(nn.Module):
    """Scores of descriptions: one number, or the mean of a distribution over bins.

    Attributes:
        scale: Factor and offset of the labels of odd sources.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))
        self.scale = nn.Parameter(torch.tensor([1.0, 0.0]))
        self.severities = nn.Linear(HIDDEN, len(DEFECTS))
        self.centres = torch.linspace(0, 1, outputs)

    def forward(self, described_NI: Tensor) -> Tensor:
        """Scores (N,), of 0 to 1."""
        outputs: Tensor = self.layers(described_NI)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs.softmax(dim=1) @ self.centres

    def distance(self, described_NI: Tensor, severities_ND: Tensor) -> Tensor:
        """Loss of the severities of defects that the same hidden layer finds."""
        return F.mse_loss(self.severities(self.layers[:2](described_NI)), severities_ND)


@dataclass(frozen=True, kw_only=True)
class Degraded:
    """Photos with defects added, described by the first backbone.

    Attributes:
        described_MI: Their descriptions.
        severities_MD: The severity of each defect.
        folds_M: The fold that their photos are tested in.
    """

    described_MI: Tensor
    severities_MD: Tensor
    folds_M: NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """The photos of a data set.

    Attributes:
        labels_N: Their labels, of 0 to 1.
        sources_N: Their sources.
        folds_N: The fold that each is tested in.
        left_out: Sources that are neither learned from nor tested.
        degraded: Photos of theirs with defects added.
    """

    labels_N: NDArray[np.float32]
    sources_N: NDArray[np.str_]
    folds_N: NDArray[np.intp]
    left_out: tuple[str, ...]
    degraded: "Degraded"

    @property
    def comparable_N(self) -> NDArray[np.bool_]:
        """Which photos are tested."""
        return ~np.isin(self.sources_N, self.left_out)


def main() -> None:
    """Describe what is not described yet, learn, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+", metavar="BACKBONE=WEIGHTS", help="the first one is the default's")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--out", type=Path, required=True, help="folder to keep descriptions in")
    parser.add_argument("--left-out", action="append", default=["ss02"])
    arguments = parser.parse_args()
    chosen = recipe.load(RECIPE)
    data = datasets.read(chosen.dataset, arguments.data)
    arguments.out.mkdir(parents=True, exist_ok=True)
    backbones = dict(pair.partition("=")[::2] for pair in arguments.backbones)
    first, *others = backbones
    described: dict[str, Tensor] = {}
    for name, weights in backbones.items():
        for view in ("whole", "crops") if name == first else ("whole",):
            described[f"{name} {view}"] = descriptions(name, Path(weights), view, data, arguments.out)
    comparable = tuple(sample for sample in data.samples if sample.source not in arguments.left_out)
    degraded_MI = descriptions(
        first, Path(backbones[first]), "degraded", replace(data, samples=comparable), arguments.out
    )
    made = examples(comparable, initial_weights.contract(chosen, data.scale, None))
    scale = data.scale
    folds = [splits.make(data, kind="folds", fold=(number, FOLDS), seed=chosen.seed) for number in range(FOLDS)]
    fold_of = {name: number for number, split in enumerate(folds) for name in split.test}
    photos = Photographs(
        labels_N=np.array([(one.mos - scale.min) / (scale.max - scale.min) for one in data.samples], np.float32),
        sources_N=np.array([sample.source for sample in data.samples]),
        folds_N=np.array([fold_of[sample.name] for sample in data.samples]),
        left_out=tuple(arguments.left_out),
        degraded=Degraded(
            described_MI=degraded_MI,
            severities_MD=torch.from_numpy(made.severities_ND),
            folds_M=np.array([fold_of[name] for name in made.photos]),
        ),
    )
    base = Lever(what="the whole photo, distance to the label", features=f"{first} whole")
    levers = [
        base,
        replace(base, what="all sources alike", sources="all"),
        replace(base, what="all sources, those left out with a factor and an offset", sources="scaled"),
        *(replace(base, what=f"backbone {name}", features=f"{name} whole") for name in others),
        replace(base, what="four crops of 320", features=f"{first} crops"),
        replace(base, what="a distribution over bins as the label", loss="bins"),
        replace(base, what="and a fidelity loss within the step", loss="fidelity"),
        replace(base, what="and a ranking loss within the step", loss="hinge"),
        replace(base, what="half of the label from a model of other folds", opinion=0.5),
        replace(base, what="severities of added defects learned before", defects="before"),
        replace(base, what="severities of added defects learned beside", defects="beside"),
        replace(base, what="photos of clear terms alone", sources=CLEAR),
    ]
    predicted = {lever.what: predict(lever, described[lever.features], photos) for lever in levers}
    rows = [row(what, scores_N, predicted[base.what], photos) for what, scores_N in predicted.items()]
    RESULTS.write_text(json.dumps({"photos": int(photos.comparable_N.sum()), "rows": rows}, indent=2) + "\n")
    table = Table(*rows[0])
    for one in rows:
        table.add_row(*map(str, one.values()))
    Console().print(table)


def descriptions(name: str, weights: Path, view: str, data: datasets.Dataset, out: Path) -> Tensor:
    """Describe all photos by one backbone and view, or read what was kept; crops of a photo by their mean."""
    file = out / f"{name}-{view}.npy"
    if not file.exists():
        mean, std = STATISTICS.get(name, (recipe.load(RECIPE).mean, recipe.load(RECIPE).std))
        chosen = replace(recipe.load(RECIPE), backbone=name, mean=mean, std=std)
        if view == "crops":
            chosen = replace(chosen, shapes=(), width=384, height=384, crop_size=320, crops=4, zooms=(1.0,))
        contract = initial_weights.contract(chosen, data.scale, None)
        network = registry.build(chosen.network, defects=True, **chosen.network_changes())
        assert isinstance(network, SmartIQA)
        initial_weights.load_backbone(network, weights)
        makers: dict[str, Callable[..., Dataset[Any]]] = {"whole": Photos, "crops": Crops, "degraded": examples}
        items = makers[view](data.samples, contract)
        found = describe(network.eval(), contract, items, decoders=1, title=f"{name}, {view}", deepest=True)
        found = found.unflatten(0, (len(data.samples), -1)).mean(dim=1) if view == "crops" else found
        np.save(file, found.numpy())
    return torch.from_numpy(np.load(file))


def examples(samples: Sequence[Sample], contract: Contract) -> Examples:
    """Photos with defects added, and without."""
    return Examples(samples, contract, EXAMPLES, seed=0)


def predict(lever: Lever, described_NI: Tensor, photos: Photographs) -> NDArray[np.float64]:
    """Scores of all photos by the models of folds that did not learn from them."""
    learned_N = {
        "comparable": photos.comparable_N,
        "all": (everything_N := np.ones(len(photos.labels_N), bool)),
        "scaled": everything_N,
    }.get(lever.sources, photos.sources_N == lever.sources)
    scores_N = np.empty(len(photos.labels_N))
    for fold in range(FOLDS):
        chosen_N = learned_N & (photos.folds_N != fold)
        labels_N = photos.labels_N.copy()
        if lever.opinion:
            # Three teachers see two thirds of the training photos each, and tell their opinion on the last third.
            thirds_N = np.random.default_rng(fold).integers(3, size=len(labels_N))
            for third in range(3):
                of_teacher = learn(lever, described_NI, labels_N, chosen_N & (thirds_N != third), photos, fold)
                own_N = chosen_N & (thirds_N == third)
                labels_N[own_N] += lever.opinion * (of_teacher[own_N] - labels_N[own_N])
        scores_N[photos.folds_N == fold] = learn(lever, described_NI, labels_N, chosen_N, photos, fold)[
            photos.folds_N == fold
        ]
    return scores_N


def learn(
    lever: Lever,
    described_NI: Tensor,
    labels_N: NDArray[np.float32],
    chosen_N: NDArray[np.bool_],
    photos: Photographs,
    fold: int,
) -> NDArray[np.float32]:
    """Train a perceptron on some photos as a lever says, and a fold's test photos left out; returns all scores."""
    own = torch.from_numpy(chosen_N)
    mean_I, std_I = described_NI[own].mean(dim=0), described_NI[own].std(dim=0).clamp_min(1e-3)
    scaled_NI = (described_NI - mean_I) / std_I
    labels = torch.from_numpy(labels_N[chosen_N])
    odd = torch.from_numpy(~photos.comparable_N[chosen_N])
    torch.manual_seed(fold)
    head = Perceptron(described_NI.shape[1], BINS if lever.loss == "bins" else 1)
    compare: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "l1": F.l1_loss,
        "fidelity": lambda x_B, y_B: F.l1_loss(x_B, y_B) + 0.2 * losses.fidelity(x_B, y_B),
        "hinge": lambda x_B, y_B: F.l1_loss(x_B, y_B) + losses.hinge(x_B, y_B, 0.02),
    }

    def loss(noisy_BI: Tensor, places: Tensor) -> Tensor:
        if lever.loss == "bins":
            distances = (labels[places, None] - head.centres) / RATERS_SPREAD
            return F.cross_entropy(head.layers(noisy_BI), (-0.5 * distances.square()).softmax(dim=1))
        scores_B: Tensor = head(noisy_BI)
        beside = torch.zeros(())
        if lever.defects == "beside":
            chosen = torch.randint(len(degraded_MI), (len(places),))
            beside = head.distance(degraded_MI[chosen], severities_MD[chosen])
        if lever.sources == "scaled":
            scores_B = torch.where(odd[places], head.scale[0] * scores_B + head.scale[1], scores_B)
        return compare[lever.loss](scores_B, labels[places]) + beside

    if lever.defects:
        others = torch.from_numpy(photos.degraded.folds_M != fold)
        degraded_MI = (photos.degraded.described_MI[others] - mean_I) / std_I
        severities_MD = photos.degraded.severities_MD[others]
    if lever.defects == "before":
        fit(head, degraded_MI, lambda noisy_BI, places: head.distance(noisy_BI, severities_MD[places]), seed=fold)
    fit(head, scaled_NI[own], loss, seed=fold)
    with torch.inference_mode():
        return np.asarray(head(scaled_NI))


def row(what: str, scores_N: NDArray[np.float64], base_N: NDArray[np.float64], photos: Photographs) -> dict[str, Any]:
    """A row of the table: means over the folds, and the difference from the base."""
    folds = [np.flatnonzero(photos.comparable_N & (photos.folds_N == fold)) for fold in range(FOLDS)]

    def mean(values_N: NDArray[np.float64], drawn: Sequence[NDArray[np.intp]]) -> float:
        return float(np.mean([stats.spearmanr(values_N[fold], photos.labels_N[fold]).statistic for fold in drawn]))

    rng = np.random.default_rng(0)
    gains = []
    for _ in range(RESAMPLES if scores_N is not base_N else 0):
        drawn = [rng.choice(fold, len(fold)) for fold in folds]
        gains.append(mean(scores_N, drawn) - mean(base_N, drawn))
    low, high = np.percentile(gains, [2.5, 97.5]) if gains else (0.0, 0.0)
    plcc = np.mean([np.corrcoef(scores_N[fold], photos.labels_N[fold])[0, 1] for fold in folds])
    return {
        "what": what,
        "srcc": round(mean(scores_N, folds), 4),
        "plcc": round(float(plcc), 4),
        "more srcc, from": round(float(low), 4),
        "to": round(float(high), 4),
    }


if __name__ == "__main__":
    main()
