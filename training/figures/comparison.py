"""Bars of a sweep's runs, and their accuracy over their cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from training import sweep_results
from training.figures import style


def bars(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw SRCC and PLCC of each run.

    Args:
        rows: As ``sweep_results.read`` gives them.
        title: Title of the figure.
    """
    figure, axes = style.new(max(5.0, 1.1 * len(rows) + 1.5), 4.2)
    figures = [sweep_results.judged(row)[1] for row in rows]
    at = np.arange(len(rows))
    for shift, (name, colour) in zip((-0.2, 0.2), (("srcc", style.RED), ("plcc", style.BLUE)), strict=True):
        drawn = axes.bar(at + shift, [values[name] for values in figures], 0.38, color=colour, label=name.upper())
        axes.bar_label(drawn, fmt="%.3f", fontsize=7, padding=2)
    values = [figure[name] for figure in figures for name in ("srcc", "plcc")]
    # The axis does not begin at 0, so that differences can be seen; its label says so.
    low = max(min(values) - 0.5 * (max(values) - min(values)) - 0.01, -1)
    axes.set_ylim(low, max(values) + 0.15 * (max(values) - low))
    axes.set_xticks(at, [str(row["name"]) for row in rows], rotation=30 if len(rows) > 4 else 0, ha="center")
    axes.set(ylabel=f"correlation (axis begins at {low:.2f})", title=title)
    axes.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return figure


def cost(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw SRCC over multiply-accumulates; the area of a dot grows with the parameters.

    Args:
        rows: As ``sweep_results.read`` gives them.
        title: Title of the figure.
    """
    figure, axes = style.new()
    for row in rows:
        srcc = sweep_results.judged(row)[1]["srcc"]
        axes.scatter(row["gmacs"], srcc, s=8 * row["parameters"] / 1e6 + 20, color=style.BLUE, alpha=0.7, linewidths=0)
        axes.annotate(
            f"{row['name']} ({row['parameters'] / 1e6:.1f} M)", (row["gmacs"], srcc), (0, 10),
            textcoords="offset points", ha="center", fontsize=8,
        )  # fmt: skip
    axes.margins(0.25)
    axes.set(xlabel="10⁹ multiply-accumulates per crop", ylabel="SRCC", title=title)
    return figure
