"""Whether the best photo of a burst is picked, and only of bursts: ``python -m benchmarks.picking CHECKPOINT DATA``.

Photos that the checkpoint was tested on, the better half of them, become scenes:

    bursts      seven frames, cut and exposed a little differently, six of them with a defect each
    brackets    three exposures, a stop and a half apart
    stacks      five frames whose focus moves from one side to the other
    panoramas   four frames that continue each other

The intact frame of a burst must win; frames of a scene must be grouped, those of two scenes not; sequences must be kept
whole. With ``--fit``, the weights of ``model.picking.ranking`` are fitted on every other scene, printed, and tried on
the rest. It prints a table and writes ``benchmarks/results/picking.json``.
"""

import argparse
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

from model.defects import DEFECTS
from model.picking import ranking
from model.picking.photo import Photo
from model.picking.picking import pick
from model.scorer import Scorer
from training import datasets, defects, splits
from training.run import SPLIT

RESULTS = Path(__file__).parent / "results" / "picking.json"
GOOD = 0.5
"""Share of the photos that become scenes, the best ones: no other defect should decide."""
FRAMES = 7
SEVERITIES = (0.25, 1.0)
CUT, EXPOSED = 0.9, 0.3
"""Least share of the sides that a frame keeps, and stops by which its exposure differs at most."""
STOPS = (-1.5, 0.0, 1.5)
PLANES = 5
"""Frames of a focus stack."""
TURNS = 4
"""Frames of a panorama."""
RIDGE = 0.01

What = Literal["burst", "bracket", "focus_stack", "panorama"]
Rng = np.random.Generator
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """A frame of a scene.

    Attributes:
        scene: Number of its scene.
        what: What the scene is.
        defect: The defect that it has; "" for none.
        photo: The frame, scored.
    """

    scene: int
    what: What
    defect: str
    photo: Photo


def main() -> None:
    """Make scenes, pick, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint with heads and the split of its training")
    parser.add_argument("data", type=Path, help="folder of the data set")
    parser.add_argument("--scenes", type=int, default=200, help="bursts; of each kind of sequence a quarter as many")
    parser.add_argument("--left-out", action="append", default=["ss02"], help="source whose photos are not used")
    parser.add_argument("--fit", action="store_true", help="fit the weights of the ranking, and print them")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    scorer = Scorer.load(arguments.checkpoint, device="cpu", precision="fp32")
    split = splits.load(arguments.checkpoint / SPLIT)
    data = datasets.read(split.dataset, arguments.data)
    tested = [one for one in splits.select(data, split.test) if one.source not in arguments.left_out]
    good = sorted(tested, key=lambda sample: -sample.mos)[: round(GOOD * len(tested))]
    order = np.random.default_rng(arguments.seed).permutation(len(good))
    kinds: list[What] = ["burst"] * arguments.scenes
    for kind in ("bracket", "focus_stack", "panorama"):
        kinds += [kind] * (arguments.scenes // 4)
    if len(kinds) > len(good):
        parser.error(f"there are only {len(good)} photos, which is not enough for {len(kinds)} scenes")
    frames: list[Frame] = []
    for scene, (place, what) in enumerate(zip(order, kinds, strict=False)):
        rng = np.random.default_rng((arguments.seed, scene))
        pixels_HWC = np.asarray(Image.open(good[place].path).convert("RGB"))
        frames += scored(scorer, scene, what, list(_MAKE[what](pixels_HWC, rng)), rng)
    if arguments.fit:
        fit(frames)
    found = measure(frames)
    RESULTS.write_text(
        json.dumps({"checkpoint": scorer.model.name, "digest": scorer.model.digest} | found, indent=2) + "\n"
    )
    table = Table("what", "share or count", "of")
    for name, (share, of) in found.items():
        table.add_row(name.replace("_", " "), f"{share:.4g}", f"{of:,}")
    Console().print(table)


def burst(pixels_HWC: Pixels, rng: Rng) -> Iterator[tuple[str, Pixels]]:
    """An intact frame, and one for each of six defects."""
    for defect in ("", *(str(name) for name in rng.permutation(DEFECTS)[: FRAMES - 1])):
        frame_HWC = _exposed(_cut(pixels_HWC, rng), rng.uniform(-EXPOSED, EXPOSED))
        severity = rng.uniform(*SEVERITIES)
        yield defect, defects.add(frame_HWC, {defect: severity}, rng) if defect else frame_HWC


def bracket(pixels_HWC: Pixels, rng: Rng) -> Iterator[tuple[str, Pixels]]:
    """The same picture at three exposures, held by hand."""
    for stops in STOPS:
        yield "", _exposed(_cut(pixels_HWC, rng, 0.97), stops)


def focus_stack(pixels_HWC: Pixels, rng: Rng) -> Iterator[tuple[str, Pixels]]:
    """A tilted plane, on a tripod: each frame is sharp in another strip."""
    height, width, _ = pixels_HWC.shape
    depth_HW = np.broadcast_to(np.linspace(0, 1, width), (height, width))
    if rng.random() < 0.5:
        depth_HW = np.broadcast_to(np.linspace(0, 1, height)[:, None], (height, width))
    levels = [pixels_HWC, *(defects.add(pixels_HWC, {"defocus": severity}, rng) for severity in (0.3, 0.5, 0.7, 0.85))]
    for plane in (np.arange(PLANES) + 0.5) / PLANES:
        place_HW = (np.abs(depth_HW - plane) * 5).clip(0, len(levels) - 1)
        low_HW = place_HW.astype(int)
        share_HW1 = (place_HW - low_HW)[..., None]
        low = np.choose(low_HW[..., None], levels)
        high = np.choose((low_HW + 1).clip(max=len(levels) - 1)[..., None], levels)
        yield "", (low * (1 - share_HW1) + high * share_HW1).round().astype(np.uint8)


def panorama(pixels_HWC: Pixels, rng: Rng) -> Iterator[tuple[str, Pixels]]:
    """Frames from left to right, each with more than a third in common with the next."""
    width = pixels_HWC.shape[1] // 2
    for turn in range(TURNS):
        left = round(turn * (pixels_HWC.shape[1] - width) / (TURNS - 1))
        yield "", _exposed(pixels_HWC[:, left : left + width], rng.uniform(-0.1, 0.1))


_MAKE = {"burst": burst, "bracket": bracket, "focus_stack": focus_stack, "panorama": panorama}


def _cut(pixels_HWC: Pixels, rng: Rng, least: float = CUT) -> Pixels:
    height, width, _ = pixels_HWC.shape
    high, wide = (round(side * rng.uniform(least, 1)) for side in (height, width))
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    return pixels_HWC[top : top + high, left : left + wide]


def _exposed(pixels_HWC: Pixels, stops: float) -> Pixels:
    """More or less light, by a gamma of 2.2."""
    exposed_HWC: Pixels = (pixels_HWC * 2.0 ** (stops / 2.2)).round().clip(0, 255).astype(np.uint8)
    return exposed_HWC


def scored(scorer: Scorer, scene: int, what: What, made: Sequence[tuple[str, Pixels]], rng: Rng) -> Iterator[Frame]:
    """Score the frames of a scene, as JPEGs; bursts in any order."""
    made = [made[place] for place in rng.permutation(len(made))] if what == "burst" else made
    files = []
    for _, pixels_HWC in made:
        file = io.BytesIO()
        Image.fromarray(pixels_HWC).save(file, "JPEG", quality=int(rng.integers(88, 96)))
        files.append(file.getvalue())
    for (defect, _), (_, photo) in zip(made, scorer.photos(files), strict=True):
        assert isinstance(photo, Photo)
        yield Frame(scene, what, defect, photo)


def measure(frames: Sequence[Frame]) -> dict[str, tuple[float, int]]:
    """Pick among all frames of all scenes together: for each measure a share or count, and of how many."""
    groups = pick([frame.photo for frame in frames])
    group_of = {member.place: number for number, group in enumerate(groups) for member in group.members}
    scenes: dict[int, list[int]] = {}
    for place, frame in enumerate(frames):
        scenes.setdefault(frame.scene, []).append(place)
    of_kind = Counter(frames[places[0]].what for places in scenes.values())
    pairs = together = won = winners = 0
    strangers: set[int] = set()
    whole: Counter[str] = Counter()
    for group in groups:
        own = {frames[member.place].scene for member in group.members}
        strangers |= own if len(own) > 1 else set()
    for places in scenes.values():
        kind = frames[places[0]].what
        numbers = [group_of[place] for place in places]
        if kind == "burst":
            pairs += len(places) * (len(places) - 1) // 2
            together += sum(one == other for at, one in enumerate(numbers) for other in numbers[at + 1 :])
            intact = next(place for place in places if not frames[place].defect)
            winner = groups[group_of[intact]].winner
            winners += 1
            won += winner is not None and winner.place == intact
        else:
            whole[kind] += len({*numbers}) == 1 and groups[numbers[0]].kind == kind
    called = [group for group in groups if group.kind not in ("alike", "single")]
    bursts = [group for group in called if frames[group.members[0].place].what == "burst"]
    return {
        "intact frame wins": (won / winners, winners),
        "pairs of a burst grouped": (together / pairs, pairs),
        "scenes grouped with another": (len(strangers) / len(scenes), len(scenes)),
        **{f"{kind} kept whole": (whole[kind] / of_kind[kind], of_kind[kind]) for kind in of_kind if kind != "burst"},
        "bursts taken for a sequence": (len(bursts) / of_kind["burst"], of_kind["burst"]),
    }


def fit(frames: Sequence[Frame]) -> None:
    """Fit the weights of the ranking on every other burst, and try them on the others; then print those of all."""
    bursts: dict[int, list[Frame]] = {}
    for frame in frames:
        if frame.what == "burst":
            bursts.setdefault(frame.scene, []).append(frame)
    described = [
        (ranking.features([frame.photo for frame in own]), next(at for at, one in enumerate(own) if not one.defect))
        for own in bursts.values()
    ]
    weights_F = _weights(described[::2])
    won = [int((features_NF @ weights_F).argmax()) == intact for features_NF, intact in described[1::2]]
    names = ("score", *DEFECTS, "sharpness", "brightness", "balance", "saturation", "contrast")
    Console().print(f"fitted on every other burst, {np.mean(won):.1%} of {len(won)} others are won by the intact frame")
    Console().print({name: round(float(weight), 2) for name, weight in zip(names, _weights(described), strict=True)})


def _weights(described: Sequence[tuple[NDArray[np.float64], int]]) -> NDArray[np.float64]:
    """Logistic regression on the differences from the intact frame, whose weights have the signs that they must."""
    lead_PF = np.concatenate(
        [features_NF[intact] - np.delete(features_NF, intact, 0) for features_NF, intact in described]
    )
    scale_F = lead_PF.std(axis=0).clip(1e-6)
    scaled_PF = lead_PF / scale_F

    def loss(weights_F: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds_P = scaled_PF @ weights_F
        slope_P = 1 / (1 + np.exp(odds_P))
        value = np.logaddexp(0, -odds_P).mean() + RIDGE * (weights_F @ weights_F)
        return float(value), -(scaled_PF * slope_P[:, None]).mean(axis=0) + 2 * RIDGE * weights_F

    signs = np.sign(ranking.weights())
    bounds = [(0, None) if sign > 0 else (None, 0) for sign in signs]
    fitted: Any = minimize(loss, np.zeros(len(signs)), jac=True, method="L-BFGS-B", bounds=bounds)
    weights_F: NDArray[np.float64] = fitted.x / scale_F
    return weights_F


if __name__ == "__main__":
    main()
