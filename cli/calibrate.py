"""``smart-iqa calibrate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import ThreadsOption

if TYPE_CHECKING:
    from model.picking.photo import Photo
    from training.taste import Trial

NOTHING_NEW = 3
"""Exit status where the labels say nothing that the model does not."""


def calibrate(
    labels: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="CSV with 20 to 500 labels: path,score or path,thumb (up, down) or better,worse.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File of the calibration, .json.")],
    root: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder that paths are relative to; that of the CSV if left out."),
    ] = None,
    scale: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Lowest and highest possible score; 0 to 1, 1 to 5, 0 to 10 or 0 to 100 if left out."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the calibration; that of the file if left out.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; the default model if left out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8.")] = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Fit a correction of the scores to a few labels of one's own, if they say something new.

    A policy that names the file, as calibration = "FILE", scores by it. Ends with status 3, and writes nothing, where
    the labels say nothing that the model does not.
    """
    import numpy as np
    from rich import box
    from rich.table import Table

    from cli.console import fail, notes, printable, results
    from cli.options import check_photos, device_option, precision_option
    from cli.scoring import stream
    from cli.scoring.scorer import load_scorer
    from model.files import locked, replacing
    from model.picking import scenes
    from training import labels as reading
    from training import taste

    if out.suffix.lower() != ".json" or not out.parent.is_dir():
        fail(f"{out}: the name must end in .json, and its folder must be there")
    told = reading.read(labels, scale)
    with locked(out):
        scorer = load_scorer(
            checkpoint, device=device_option(device), precision=precision_option(precision), threads=threads
        )
        check_photos(True, scorer.checkpoint)
        folder = labels.parent if root is None else root
        seen: list[Photo] = []
        with notes.status("scoring ...") as status:
            for path, found in scorer.photos(folder / photo for photo in told.photos):
                if isinstance(found, Exception):
                    fail(f"{printable(str(path))}: {stream.explain(found)}")
                seen.append(found)
                status.update(f"scoring: {len(seen):,} of {len(told.photos):,}")
            status.update("fitting ...")
            scenes_N = np.empty(len(seen), np.intp)
            for number, places in enumerate(scenes.group(seen)):
                scenes_N[places] = number
            photos = taste.Photos(
                scores_N=np.array([photo.score for photo in seen]),
                descriptions_NK=np.array([photo.description for photo in seen]),
                scenes_N=scenes_N,
            )
            made, trials = taste.fit(told, photos, name=name or out.stem, model=scorer.model.digest)
        table = Table(box=box.SIMPLE_HEAD)
        for column in ("tried", "measure", "before", "after", "gain, 95 %", ""):
            table.add_column(column, justify="right" if column in ("before", "after") else "left", overflow="fold")
        for trial in trials:
            table.add_row(*_cells(trial))
        results.print(table, markup=False)
        counted = f"{len(told)} {told.kind}"
        if told.kind == "scores":
            low, high = told.scale
            notes.print(f"the scores are taken as {low:g} (worst) to {high:g} (best); --scale changes that")
        if made is None:
            notes.print(
                f"{counted} say nothing that {scorer.model.name} does not: nothing is written, scores stay as they are"
            )
            raise typer.Exit(NOTHING_NEW)
        with replacing(out) as fresh:
            fresh.write_text(made.to_json(), encoding="utf-8")
        notes.print(f"{out} holds {made.id}, fitted on {counted}", markup=False, soft_wrap=True)


def _cells(trial: "Trial") -> tuple[str, ...]:
    digits = 1 if trial.measure.startswith("points") else 3
    gain = f"{trial.low:+.{digits}f} to {trial.high:+.{digits}f}"
    verdict = "taken" if trial.helps else "not taken: it may be chance"
    return trial.what, trial.measure, f"{trial.before:.{digits}f}", f"{trial.after:.{digits}f}", gain, verdict
