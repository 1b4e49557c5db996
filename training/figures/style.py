"""Colours, axes and file formats of all figures."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

RED, BLUE, GREY = "#c0392b", "#2471a3", "#555555"
STAGES = ("#0072b2", "#009e73", "#e6a700", "#d55e00")
"""Stages 1 to 4, told apart also by colour-blind eyes (after Okabe and Ito)."""


def new(width: float = 6.4, height: float = 4.2) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write a figure as PNG and as SVG; returns the PNG's path."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    file = folder / f"{name}.png"
    figure.savefig(file, dpi=160)
    return file
