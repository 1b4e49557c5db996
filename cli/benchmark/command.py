"""``smart-iqa benchmark``."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.benchmark import tables
from cli.options import ThreadsOption

if TYPE_CHECKING:
    from training.accuracy import Measured
    from training.complexity import Cost
    from training.published import Published

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
    else:
        results.print(tables.complexity(measured, f"fp32, 224x224 crops, {_machine(where)}", batch))


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
    # Wrong arguments are reported before the measurement, which takes minutes.
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
            except Exception as error:  # whatever it is, the figures of the other networks are still wanted
                failed[name] = (str(error) or type(error).__name__).splitlines()[0]
    if json_:
        for cost in measured:
            _line({"kind": "cost", "device": _machine(where), "batch": batch, **dataclasses.asdict(cost)})
        for name, reason in failed.items():
            _line({"kind": "failure", "name": name, "reason": reason})
        _accuracy_lines(from_papers, from_here)
    else:
        results.print(tables.costs(measured, f"fp32, {costs.CROP}x{costs.CROP}, {_machine(where)}", batch))
        if from_papers or from_here:
            results.print(tables.accuracies(from_papers, from_here))
        for note, mark in tables.note_marks(from_papers).items():
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
    from cli.pictures.sources import Search, find_files
    from model import checkpoint as checkpoints
    from model.options import DEFAULT_CHECKPOINT

    search = Search()
    files = precisions.some(list(find_files(photos, search)), pictures)
    search.not_looked_at.tell()
    if not files:
        fail("there are no pictures in " + ", ".join(map(str, photos)))
    loaded = checkpoints.load(checkpoint or DEFAULT_CHECKPOINT)
    rows = precisions.differences(
        loaded, precisions.engines(loaded), track(files, description="scoring", console=notes, transient=True)
    )
    if json_:
        for row in rows:
            _line({"checkpoint": loaded.config.name, "device": _machine("cpu"), **dataclasses.asdict(row)})
    else:
        results.print(tables.precision(rows, f"{loaded.config.name}, {len(files)} pictures, {_machine('cpu')}"))


@app.command("behaviour")
def behaviour(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    photos: Annotated[list[Path], typer.Argument(help="Photos that it was not trained on, or folders of them.")],
    pictures: Annotated[int, typer.Option(min=1, help="How many of them to use.")] = 50,
    seed: Annotated[int, typer.Option(help="Of noise and directions.")] = 0,
    threads: ThreadsOption = 0,
    json_: Json = False,
) -> None:
    """Whether scores fall as photos get worse: ten kinds of degradation at five levels each, and pictures of nothing.

    Of a checkpoint that finds defects also how well: they are added to the best of the photos. Photos of the training
    part of the checkpoint's split.json are left out.
    """
    from rich.progress import track

    from cli.console import fail, notes, results
    from cli.models.precision import some
    from cli.pictures.sources import Search, find_files
    from cli.scoring.scorer import load_scorer
    from training import behaviour as behaviours
    from training import found_defects, splits
    from training.run import SPLIT

    scorer = load_scorer(checkpoint, threads=threads)
    split = checkpoint / SPLIT
    trained_on = set(splits.load(split).train) if split.is_file() else set()
    search = Search()
    files = some([file for file in find_files(photos, search) if file.name not in trained_on], pictures)
    search.not_looked_at.tell()
    if not files:
        fail("there are no photos that it was not trained on in " + ", ".join(map(str, photos)))
    measured = behaviours.measure(
        scorer,
        files,
        seed=seed,
        progress=lambda files: track(files, description="scoring", console=notes, transient=True),
    )
    found = None
    if scorer.checkpoint.contract.defects:
        found = found_defects.measure(
            scorer,
            files,
            seed=seed,
            progress=lambda files: track(files, description="adding defects", console=notes, transient=True),
        )
    if json_:
        about = {} if found is None else {"defects": dataclasses.asdict(found)}
        _line({"checkpoint": scorer.model.name, **dataclasses.asdict(measured), **about})
        return
    results.print(tables.degradations(measured, scorer.model.name))
    results.print(tables.blanks(measured))
    if found is not None:
        results.print(tables.found_defects(found))


def _accuracy_lines(from_papers: Sequence["Published"], from_here: Sequence["Measured"]) -> None:
    from training.published import NOTES

    for paper in from_papers:
        notes = [NOTES[note] for note in paper.notes]
        figures = {dataset: pair._asdict() for dataset, pair in paper.figures.items()}
        _line({"kind": "published", **dataclasses.asdict(paper), "notes": notes, "figures": figures})
    for here in from_here:
        _line({"kind": "measured", **dataclasses.asdict(here)})


def _machine(device: str) -> str:
    import torch

    kind = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{kind}, torch {torch.__version__}"


def _line(fields: dict[str, Any]) -> None:
    from cli.console import results

    results.print(json.dumps(fields), markup=False, soft_wrap=True)
