"""Plots scores of photos with growing distortions, for the README.

    python -m benchmarks.falling

draws ``docs/images/falling.png`` from the default checkpoint and the photos in ``examples/``, none of which it was
trained on. ``smart-iqa benchmark behaviour`` prints such figures for any checkpoint and photos.
"""

from pathlib import Path

from rich.progress import track

from model.scorer import Scorer
from training import behaviour
from training.behaviour import Degraded
from training.figures import style

ROOT = Path(__file__).parents[1]
PLOT = ROOT / "docs" / "images" / "falling.png"
SHOWN = {
    "underexposure": ("#555555", "v"),
    "overexposure": ("#e6a700", "^"),
    "motion blur": ("#56b4e9", "s"),
    "jpeg": ("#d55e00", "D"),
    "blur": ("#0072b2", "o"),
    "white noise": ("#009e73", "P"),
}
"""Kinds that are drawn, with colour and mark: those that end highest come first."""


def main() -> None:
    """Measure and draw."""
    photos = sorted((ROOT / "examples").glob("*.jpg"))
    found = behaviour.measure(
        Scorer.load(device="cpu", precision="fp32"), photos, progress=lambda files: track(files, "scoring")
    )
    draw({row.kind: row for row in found.degraded}, len(photos), PLOT)


def draw(rows: dict[str, Degraded], photos: int, file: Path) -> None:
    """Draw a line for each kind.

    Args:
        rows: What was measured, by kind.
        photos: How many photos that was.
        file: Where to write the PNG.
    """
    figure, axes = style.new(7.2, 3.6)
    for kind, (colour, mark) in SHOWN.items():
        row = rows[kind]
        axes.plot(range(6), (row.untouched, *row.levels), color=colour, marker=mark, markersize=5, label=kind)
    axes.set(xlabel="level of damage", ylabel=f"score, mean of {photos} photos", ylim=(0, 100))
    axes.set_xticks(range(6), ["as it was", "1", "2", "3", "4", "5"])
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(file, dpi=130)


if __name__ == "__main__":
    main()
