"""``smart-iqa benchmark``."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from training.accuracy import Measured
    from training.complexity import Cost
    from training.published import NoteName, Published

app = typer.Typer(help="What networks cost, and how accurate they are.", no_args_is_help=True)

SIZES = ("smart-mobile", "smart-tiny", "smart-small", "smart-base")
SYSTEMS = (*SIZES, "hyperiqa", "life-iqa", "loda-b", "loda-s", "loda-ti", "musiq", "musiq-single")

Batch = Annotated[int, typer.Option(min=1, help="Crops (for MUSIQ pictures) to a batch for the throughput.")]
Rounds = Annotated[int, typer.Option(min=1, help="Timed runs of each.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of tables.")]


@app.command("complexity")
def complexity(
    network: Annotated[
        list[str] | None, typer.Argument(help="Preset names; smart-mobile, -tiny, -small and -base if left out.")
    ] = None,
    batch: Batch = 32,
    rounds: Rounds = 10,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Parameters, multiply-accumulates, latency and throughput of networks, in fp32 for crops of 224x224."""
    from cli.console import notes, results
    from cli.options import device_option
    from model.inference.engine import resolve_device
    from training import complexity as costs

    where = resolve_device(device_option(device))
    measured = []
    with notes.status("measuring ...") as status:
        for name in network or SIZES:
            status.update(f"measuring {name} ...")
            measured.append(costs.measure(name, batch=batch, rounds=rounds, device=where))
    if json_:
        for cost in measured:
            _line(dataclasses.asdict(cost))
        return
    table = _table(f"fp32, 224x224 crops, {_machine(where)}")
    for column in ("params (M)", "GMACs", "ms, 1 crop", f"crops/s, {batch}", "relative speed"):
        table.add_column(column, justify="right")
    for cost in measured:
        table.add_row(
            cost.name,
            f"{cost.parameters / 1e6:.2f}",
            f"{cost.gmacs:.2f}",
            f"{cost.latency_ms:.2f}",
            f"{cost.throughput:.1f}",
            f"{measured[0].latency_ms / cost.latency_ms:.2f}x",
        )
    results.print(table)


@app.command("models")
def models(
    network: Annotated[list[str] | None, typer.Argument(help="Preset names; one of each system if left out.")] = None,
    batch: Batch = 32,
    rounds: Rounds = 10,
    device: Device = "auto",
    checkpoints: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Folder of checkpoints; the project's own if left out."),
    ] = None,
    json_: Json = False,
) -> None:
    """All systems side by side: what they cost here; the accuracy of their papers, and of checkpoints trained here.

    Networks have random weights and are measured one after the other, each in a process of its own, in fp32 on crops
    of 224x224 (MUSIQ: on pictures of that size). The exit status is 1 if one of them could not be measured.
    """
    from cli.console import SOME_FAILED, notes, results
    from cli.options import device_option
    from model.inference.engine import resolve_device
    from model.networks import registry
    from model.options import DEFAULT_CHECKPOINT
    from training import accuracy, published
    from training import complexity as costs

    where = resolve_device(device_option(device))
    names = network or SYSTEMS
    # What the user got wrong shows before the measuring, which takes minutes.
    for name in names:
        registry.view(name)
    from_papers = published.rows(names)
    from_here = accuracy.of_checkpoints(checkpoints or DEFAULT_CHECKPOINT.parent)
    measured: list[Cost] = []
    failed: dict[str, str] = {}
    with notes.status("measuring ...") as status:
        for name in names:
            status.update(f"measuring {name} ...")
            try:
                measured.append(costs.measure_alone(name, batch=batch, rounds=rounds, device=where))
            except Exception as error:  # whatever it is, the figures of the others are worth having
                failed[name] = (str(error) or type(error).__name__).splitlines()[0]
    if json_:
        for cost in measured:
            _line({"kind": "cost", "device": _machine(where), "batch": batch, **dataclasses.asdict(cost)})
        for name, reason in failed.items():
            _line({"kind": "failure", "name": name, "reason": reason})
        for paper in from_papers:
            explained = [published.NOTES[note] for note in paper.notes]
            figures = {dataset: pair._asdict() for dataset, pair in paper.figures.items()}
            _line({"kind": "published", **dataclasses.asdict(paper), "notes": explained, "figures": figures})
        for here in from_here:
            _line({"kind": "measured", **dataclasses.asdict(here)})
    else:
        results.print(_costs(measured, f"fp32, {costs.CROP}x{costs.CROP}, {_machine(where)}", batch))
        if from_papers or from_here:
            results.print(_accuracies(from_papers, from_here))
        for note, mark in _marks(from_papers).items():
            results.print(f"  {mark}  {published.NOTES[note]}", markup=False)
    for name, reason in failed.items():
        notes.print(f"{name} could not be measured: {reason}", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(SOME_FAILED)


@app.command("precision")
def precision(
    photos: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; the default model if left out.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="How many of them to use.")] = 500,
    json_: Json = False,
) -> None:
    """How far a checkpoint's scores move in bf16 and int8, and how fast each is here, over the same pictures."""
    from rich.progress import track

    from cli.console import fail, notes, results
    from cli.models import precision as precisions
    from cli.pictures.sources import find_files
    from model import checkpoint as checkpoints
    from model.options import DEFAULT_CHECKPOINT

    files = precisions.some(list(find_files(photos)), pictures)
    if not files:
        fail("there are no pictures in " + ", ".join(map(str, photos)))
    loaded = checkpoints.load(checkpoint or DEFAULT_CHECKPOINT)
    rows = precisions.differences(
        loaded, precisions.engines(loaded), track(files, description="scoring", console=notes, transient=True)
    )
    if json_:
        for row in rows:
            _line({"checkpoint": loaded.config.name, "device": _machine("cpu"), **dataclasses.asdict(row)})
        return
    table = _table(f"{loaded.config.name}, {len(files)} pictures, {_machine('cpu')}", first="precision")
    for column in ("mean |difference|", "largest", "bias", "ms a crop", "speed"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.precision,
            f"{row.mean:.3f}",
            f"{row.most:.2f}",
            f"{row.bias:+.3f}",
            f"{1e3 * row.seconds:.2f}",
            f"{row.speed:.2f}x",
        )
    results.print(table)


@app.command("behaviour")
def behaviour(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    photos: Annotated[list[Path], typer.Argument(help="Photos that it was not trained on, or folders of them.")],
    pictures: Annotated[int, typer.Option(min=1, help="How many of them to use.")] = 50,
    seed: Annotated[int, typer.Option(help="Of noise and directions.")] = 0,
    json_: Json = False,
) -> None:
    """Whether scores fall as photos get worse: ten kinds of degradation at five levels each, and pictures of nothing.

    Photos of the training part of the checkpoint's split.json are left out.
    """
    from rich.progress import track

    from cli.console import fail, notes, results
    from cli.models.precision import some
    from cli.pictures.sources import find_files
    from model.scorer import Scorer
    from training import behaviour as behaviours
    from training import splits
    from training.run import SPLIT

    scorer = Scorer.load(checkpoint)
    split = checkpoint / SPLIT
    known = set(splits.load(split).train) if split.is_file() else set()
    files = some([file for file in find_files(photos) if file.name not in known], pictures)
    if not files:
        fail("there are no photos that it was not trained on in " + ", ".join(map(str, photos)))
    found = behaviours.measure(
        scorer,
        files,
        seed=seed,
        progress=lambda files: track(files, description="scoring", console=notes, transient=True),
    )
    if json_:
        _line({"checkpoint": scorer.model.name, **dataclasses.asdict(found)})
        return
    table = _table(f"{scorer.model.name}, mean scores of {found.pictures} photos", first="degradation")
    for column in ("untouched", *(f"level {level}" for level in behaviours.LEVELS), "order violated", "level 1 raises"):
        table.add_column(column, justify="right")
    for row in found.degraded:
        scores = [f"{score:.1f}" for score in (row.untouched, *row.levels)]
        table.add_row(row.kind, *scores, f"{row.violated:.1%}", f"{row.raised:.1%}")
    table.add_section()
    table.add_row("all", *[""] * (1 + len(behaviours.LEVELS)), f"{found.violated:.1%}", "")
    results.print(table)
    table = _table(f"pictures of nothing, {behaviours.DRAWS} of each", first="kind")
    for column in ("highest score", "photos no better"):
        table.add_column(column, justify="right")
    for blank in found.blanks:
        table.add_row(blank.kind, f"{blank.highest:.1f}", f"{blank.worse:.1%}")
    results.print(table)


def _costs(measured: Sequence["Cost"], title: str, batch: int) -> "Table":
    table = _table(title)
    for column in (
        *("params (M)", "trainable (M)", "GMACs", "ms, 1 item", "relative speed", f"items/s, {batch}"),
        f"peak MB, {batch}",
    ):
        table.add_column(column, justify="right")
    for cost in measured:
        table.add_row(
            cost.name,
            f"{cost.parameters / 1e6:.2f}",
            f"{cost.trainable / 1e6:.2f}",
            f"{cost.gmacs:.2f}",
            f"{cost.latency_ms:.1f}",
            f"{measured[0].latency_ms / cost.latency_ms:.2f}x",
            f"{cost.throughput:.1f} {cost.items}/s",
            "" if cost.peak_mb is None else f"{cost.peak_mb:.0f}",
        )
    return table


def _accuracies(from_papers: Sequence["Published"], from_here: Sequence["Measured"]) -> "Table":
    """A row for each row of a paper, and one for each part that a checkpoint was measured on."""
    from training.published import TITLES

    there = {name for paper in from_papers for name in paper.figures} | {here.dataset for here in from_here}
    columns = [name for name in TITLES if name in there] + sorted(there - set(TITLES))
    marks = _marks(from_papers)
    table = _table("accuracy, SRCC PLCC")
    for column in ("source", "judged on", "notes", *(TITLES.get(name, name) for name in columns)):
        table.add_column(column)
    for paper in from_papers:
        cells = (_pair(*paper.figures[name]) if name in paper.figures else "" for name in columns)
        table.add_row(paper.preset, paper.source, "test", " ".join(str(marks[note]) for note in paper.notes), *cells)
    if from_papers:
        table.add_section()
    for here in from_here:
        part = f"{here.pictures} {here.part}" + (", chose the epoch" if here.chosen_on else "")
        cells = (_pair(here.srcc, here.plcc) if name == here.dataset else "" for name in columns)
        table.add_row(here.name, f"here: {here.folder}", part, "", *cells)
    return table


def _marks(from_papers: Sequence["Published"]) -> dict["NoteName", int]:
    """Numbers for the notes of some rows, in the order in which they come."""
    order = dict.fromkeys(note for paper in from_papers for note in paper.notes)
    return {note: place for place, note in enumerate(order, start=1)}


def _pair(srcc: float, plcc: float) -> str:
    """Three digits as the papers print them, or four where there are four; a narrow table may break at the space."""
    return " ".join(f"{value:.4f}".removesuffix("0").replace("0.", ".", 1) for value in (srcc, plcc))


def _table(title: str, first: str = "network") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column(first)
    return table


def _machine(device: str) -> str:
    import torch

    kind = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{kind}, torch {torch.__version__}"


def _line(fields: dict[str, Any]) -> None:
    from cli.console import results

    results.print(json.dumps(fields), markup=False, soft_wrap=True)
