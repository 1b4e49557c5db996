"""Mean weights of the backbone's stages by quality, over all pictures of an evaluation."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from training.figures import style

LEVELS = 5


def by_quality(predictions: pd.DataFrame, title: str) -> Figure | None:
    """Draw the mean stage weights of five equal groups of pictures, by label; whiskers are standard deviations.

    Args:
        predictions: Columns ``mos`` and ``stage1`` to ``stage4``.
        title: Title of the figure.

    Returns:
        The figure, or None where the network has no stage weights.
    """
    stages = [column for column in predictions if str(column).startswith("stage")]
    if not stages:
        return None
    ranks = predictions["mos"].rank(method="first")
    level = np.ceil(ranks / len(predictions) * LEVELS).astype(int)
    groups = predictions.groupby(level)
    figure, axes = style.new(8, 4.2)
    width = 0.8 / len(stages)
    for place, (stage, colour) in enumerate(zip(stages, style.STAGES, strict=True)):
        at = np.arange(groups.ngroups) + (place - (len(stages) - 1) / 2) * width
        means, spreads = groups[stage].mean() * 100, groups[stage].std(ddof=0).fillna(0) * 100
        # Weights are not negative, so whiskers end at 0.
        below = np.minimum(spreads, means)
        axes.bar(at, means, width * 0.92, color=colour, label=f"stage {place + 1}")
        axes.errorbar(at, means, yerr=[below, spreads], fmt="none", ecolor=style.GREY, elinewidth=1, capsize=2)
    ranges = [f"{group['mos'].min():.3g} to {group['mos'].max():.3g}" for _, group in groups]
    axes.set_xticks(range(groups.ngroups), ranges)
    axes.set(
        xlabel="mean opinion score, worst fifth to best fifth of the pictures", ylabel="mean weight, %", title=title
    )
    axes.legend(frameon=False, ncols=len(stages))
    return figure
