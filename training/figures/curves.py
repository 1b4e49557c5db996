"""Training curves: the loss, the agreement with the validation labels, the learning rates."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def draw(lines: Sequence[Mapping[str, float]]) -> Figure:
    """Draw a run's figures by epoch, as ``training.run.read_metrics`` gives them."""
    epochs = [line["epoch"] for line in lines]
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    loss, agreement, rates = figure.subplots(1, 3)
    loss.plot(epochs, [line["loss"] for line in lines], marker=".", color="#444444")
    loss.set_title("training loss")
    measured = [line for line in lines if "srcc" in line]
    for name, colour in (("srcc", "#c0392b"), ("plcc", "#2471a3")):
        agreement.plot(
            [line["epoch"] for line in measured], [line[name] for line in measured], marker=".", color=colour,
            label=name.upper(),
        )  # fmt: skip
    if measured:
        best = max(measured, key=lambda line: line["srcc"])
        agreement.plot(best["epoch"], best["srcc"], marker="*", markersize=13, color="#c0392b")
        agreement.annotate(f"{best['srcc']:.4f}", (best["epoch"], best["srcc"]), (0, -16), textcoords="offset points",
                           ha="center")  # fmt: skip
        agreement.margins(x=0.1)
        agreement.legend()
    agreement.set_title("agreement on the watched pictures")
    for name, label in (("head_lr", "head"), ("backbone_lr", "backbone")):
        rates.plot(epochs, [line[name] for line in lines], marker=".", label=label)
    rates.set_title("learning rate at the end of the epoch")
    rates.legend()
    for axes in (loss, agreement, rates):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    return figure
