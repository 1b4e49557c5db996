"""``smart-iqa compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import ThreadsOption

if TYPE_CHECKING:
    from model.comparison import Pair


def compare(
    pictures: Annotated[list[Path], typer.Argument(help="Two to sixteen pictures.")],
    json_: Annotated[bool, typer.Option("--json", help="Write JSON instead of tables.")] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; the default model if left out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8.")] = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Tell which of several pictures people prefer, how sure that is, and in which defects they differ.

    Ends with status 1 if a picture could not be scored; the others are compared all the same.
    """
    import json

    from rich import box
    from rich.table import Table

    from cli.console import SOME_FAILED, fail, notes, printable, results
    from cli.options import device_option, precision_option
    from cli.scoring import stream
    from cli.scoring.scorer import load_scorer
    from model import comparison
    from model.score import QualityScore

    if not comparison.LEAST <= len(pictures) <= comparison.MOST:
        fail(f"name two to {comparison.MOST} pictures, not {len(pictures)}")
    scorer = load_scorer(
        checkpoint, device=device_option(device), precision=precision_option(precision), threads=threads
    )
    found = [score for _, score in scorer.score_many(pictures)]
    failed = [(place, one) for place, one in enumerate(found) if not isinstance(one, QualityScore)]
    scores = [one if isinstance(one, QualityScore) else None for one in found]
    compared = comparison.compare(scores)
    for place, error in failed:
        notes.print(f"{printable(str(pictures[place]))}: {stream.explain(error)}", markup=False, soft_wrap=True)
    if json_:
        records = [
            stream.error_record(str(file), one) if isinstance(one, Exception) else {"path": str(file), **one.to_dict()}
            for file, one in zip(pictures, found, strict=True)
        ]
        results.print_json(json.dumps({**compared.to_dict(), "results": records}))
        raise typer.Exit(SOME_FAILED if failed else 0)
    best = compared.order[0] if compared.order else None
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("", "score", "likely", "picture", "the best is preferred to it", "because"):
        table.add_column(column, justify="right" if column in ("", "score", "likely") else "left", overflow="fold")
    for rank, place in enumerate(compared.order, 1):
        score = scores[place]
        assert score is not None
        assert score.interval is not None
        likely = f"{score.interval.low:.0f} to {score.interval.high:.0f}"
        pair = next((pair for pair in compared.pairs if {pair.first, pair.second} == {best, place}), None)
        told = ("", "") if pair is None or best is None else _told(pair, best)
        table.add_row(str(rank), f"{score.score:.2f}", likely, printable(str(pictures[place])), *told)
    results.print(table, markup=False)
    raise typer.Exit(SOME_FAILED if failed else 0)


def _told(pair: "Pair", best: int) -> tuple[str, str]:
    """How likely the best picture is preferred to another one, and in which defects they differ."""
    share = pair.preferred if pair.first == best else 1 - pair.preferred
    differences = []
    for each in pair.because:
        own, other = (each.first, each.second) if pair.first == best else (each.second, each.first)
        differences.append(f"{each.defect.replace('_', ' ')} {other:.1f} instead of {own:.1f}")
    # No pair is quite sure.
    return f"{min(share, 0.99):.0%}{', the same file' if pair.duplicate else ''}", ", ".join(differences)
