"""Scatter plot of labels over predictions."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from training.correlation import fit_logistic, logistic
from training.figures import style


def scatter(predictions: pd.DataFrame, title: str) -> Figure:
    """Draw each picture's label over its prediction, with the fitted logistic.

    Args:
        predictions: Columns ``prediction`` and ``mos``.
        title: Title of the figure.
    """
    figure, axes = style.new(5.6, 5.2)
    x, y = predictions["prediction"].to_numpy(float), predictions["mos"].to_numpy(float)
    axes.scatter(x, y, s=12, alpha=min(1.0, 12 / np.sqrt(len(x))), color=style.BLUE, linewidths=0, rasterized=True)
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    axes.plot([low, high], [low, high], color=style.GREY, linewidth=1, linestyle="--", label="prediction = label")
    fitted = fit_logistic(x, y)
    if fitted is not None:
        line = np.linspace(x.min(), x.max(), 200)
        axes.plot(line, logistic(line, *fitted), color=style.RED, linewidth=2, label="four-parameter logistic")
    axes.set(xlabel="prediction", ylabel="mean opinion score")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, loc="upper left")
    return figure
