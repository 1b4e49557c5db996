"""Feature-activation maps of pictures from the worst to the best."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from model.checkpoint import Checkpoint
from model.maps.activations import stage_activations


def maps(checkpoint: Checkpoint, pictures: Sequence[tuple[Path, str]]) -> Figure:
    """Draw pictures, a row each, beside the activity of the four stages (SMART-IQA, Eq. 18; viridis).

    Args:
        checkpoint: The checkpoint whose backbone is shown.
        pictures: Paths and captions, a row each.
    """
    figure = Figure(figsize=(12.5, 2.6 * len(pictures) + 0.5), layout="constrained")
    grid = figure.subplots(len(pictures), 5, squeeze=False)
    for row, (path, caption) in zip(grid, pictures, strict=True):
        resized, activations = stage_activations(checkpoint, checkpoint.contract.decode(path.read_bytes()))
        row[0].imshow(resized)
        row[0].set_title(caption, fontsize=9)
        for stage, (axes, activation_HW) in enumerate(zip(row[1:], activations, strict=True), 1):
            shown = axes.imshow(activation_HW, cmap="viridis", vmin=0, vmax=1)
            axes.set_title(f"stage {stage}", fontsize=9)
        for axes in row:
            axes.set_axis_off()
    figure.colorbar(shown, ax=grid[:, 1:].ravel().tolist(), shrink=0.6, label="activity, from least to most")
    return figure
