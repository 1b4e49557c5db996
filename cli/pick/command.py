"""The options of ``smart-iqa pick``."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DefaultExcludesOption, ExcludeOption, StrictOption, ThreadsOption


def pick(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Photos, folders of them, zip and tar archives, quoted globs; - reads a list of paths from stdin."
        ),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(help="Instead of photos, what smart-iqa score-bulk --photos wrote: its folder or URI."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write: .csv or .jsonl, a line for each photo. An interrupted run goes on where it stopped.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew, and replace that file.")] = False,
    html: Annotated[Path | None, typer.Option(help="Page to write: the groups, side by side.")] = None,
    move_to: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Move the photos that are not the best of their group to this folder; nothing else is.",
        ),
    ] = None,
    null: Annotated[bool, typer.Option("--null", "-0", help="NUL bytes separate the list on stdin.")] = False,
    exclude: ExcludeOption = None,
    default_excludes: DefaultExcludesOption = True,
    strict: StrictOption = False,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; the default model if left out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8.")] = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Group nearly equal photos, and name the best of each group.

    Exposure brackets, focus stacks and panoramas are told, and kept whole. No photo is deleted. Ends with status 1 if a
    photo could not be scored; the others are picked from all the same.
    """
    import itertools
    from dataclasses import replace

    import imagehash  # noqa: F401 -- its absence shows before anything is scored

    from cli.console import fail
    from cli.options import check_photos, device_option, precision_option
    from cli.pick import outputs
    from cli.pick.run import Plan, Run
    from cli.pictures import sources
    from cli.pictures.exclusions import Exclusions, NotLookedAt
    from cli.pictures.sources import Search
    from cli.score import page
    from cli.score.journal import part_of
    from cli.scoring.scorer import load_scorer
    from model.files import all_locked

    if out is not None:
        outputs.check(out)
    if html is not None:
        page.check(html)
    if bool(paths) == (scores is not None):
        fail("name photos, or with --scores what score-bulk --photos wrote")
    plan = Plan(out=out, html=html, folder=move_to, strict=strict)
    search = Search(Exclusions(exclude or (), defaults=default_excludes), own=move_to)
    with all_locked(out, html):
        run = Run(plan, part_of(out, overwrite=overwrite), search.not_looked_at, search.claim(paths or ()))
        if scores is not None:
            raise typer.Exit(run.of_scores(scores))
        assert paths is not None
        photos = sources.find(paths, search, null=null)
        first = next(photos, None)
        if first is None and not run.can_resume:
            search.not_looked_at.tell()
            fail("there are no pictures in " + ", ".join(paths))
        scorer = load_scorer(
            checkpoint, device=device_option(device), precision=precision_option(precision), threads=threads
        )
        check_photos(True, scorer.checkpoint)
        again = replace(search, not_looked_at=NotLookedAt())
        list_again = None if sources.STDIN in paths else lambda: sources.find(paths, again, null=null)
        all_photos = itertools.chain(() if first is None else (first,), photos)
        raise typer.Exit(run.of_photos(scorer, all_photos, list_again))
