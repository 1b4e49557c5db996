"""``smart-iqa score``."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import (
    DefaultExcludesOption,
    ExcludeOption,
    LanguageOption,
    PoliciesOption,
    PolicyOption,
    StrictOption,
    ThreadsOption,
)
from cli.score.outputs import Format
from cli.score.selection import SortOrder

if TYPE_CHECKING:
    from cli.pictures.picture_ref import PictureRef


def score(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, folders of them, zip and tar archives, quoted globs such as 'photos/**/*.jpg'; "
            "- reads a list of paths from stdin."
        ),
    ],
    format_: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="Form of the results on stdout; a table, or nothing beside --out."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File to write: .csv, .jsonl or .parquet. An interrupted run goes on where it stopped."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew, and replace that file.")] = False,
    sort: Annotated[
        SortOrder | None, typer.Option(help="Order of the results; as they were found if left out.")
    ] = None,
    below: Annotated[float | None, typer.Option(help="Only pictures with a lower score.")] = None,
    above: Annotated[float | None, typer.Option(help="Only pictures with a higher score.")] = None,
    copy_to: Annotated[
        Path | None, typer.Option(file_okay=False, help="Copy the pictures meant by --below or --above to this folder.")
    ] = None,
    move_to: Annotated[Path | None, typer.Option(file_okay=False, help="Move them there instead.")] = None,
    html: Annotated[Path | None, typer.Option(help="Page to write: the worst pictures, and a histogram.")] = None,
    null: Annotated[bool, typer.Option("--null", "-0", help="NUL bytes separate the list on stdin.")] = False,
    exclude: ExcludeOption = None,
    default_excludes: DefaultExcludesOption = True,
    strict: StrictOption = False,
    policy: PolicyOption = None,
    policies: PoliciesOption = None,
    language: LanguageOption = None,
    crops: Annotated[
        str | None,
        typer.Option(
            help="Crops per picture, 1 to 64; the model's own count if left out; auto for as many of those as it needs."
        ),
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; the default model if left out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8.")] = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Score pictures, from 0 (worst) to 100 (best).

    Ends with status 1 if a picture could not be scored, else with 3 if the policy rejects one; all others are scored
    all the same.
    """
    from cli.console import fail
    from cli.options import check_policy, crops_option, device_option, policy_option, precision_option
    from cli.pictures import sources
    from cli.pictures.exclusions import Exclusions, NotLookedAt
    from cli.pictures.sources import Search
    from cli.score import outputs, page
    from cli.score.journal import part_of
    from cli.score.run import Plan, Run
    from cli.score.selection import Selection
    from cli.scoring.scorer import load_scorer
    from model.files import all_locked

    plan = Plan(
        format=format_ or (None if out else Format.TABLE),
        out=out,
        sort=sort,
        selection=Selection(below=below, above=above),
        folder=copy_to or move_to,
        move=move_to is not None,
        html=html,
        policy=policy_option(policy, policies, language),
        strict=strict,
    )
    search = Search(Exclusions(exclude or (), defaults=default_excludes), own=plan.folder)
    crop_count = crops_option(crops)
    if plan.folder and not plan.selection:
        fail("--copy-to and --move-to need --below or --above, which say what is meant")
    if copy_to and move_to:
        fail("pictures are either copied or moved")

    def count() -> "Iterator[PictureRef]":
        return sources.find(paths, replace(search, not_looked_at=NotLookedAt()), null=null)

    if out is not None:
        outputs.check(out)
    if html is not None:
        page.check(html)
    with all_locked(out, html):
        part = part_of(out, overwrite=overwrite)
        pictures = sources.find(paths, search, null=null)
        first = next(pictures, None)
        if first is None and not (part and part.exists()):
            search.not_looked_at.tell()
            fail("there are no pictures in " + ", ".join(paths))
        scorer = load_scorer(
            checkpoint, device=device_option(device), precision=precision_option(precision), threads=threads
        )
        check_policy(plan.policy, scorer.checkpoint)
        run = Run(plan, scorer, crop_count, part, search, search.claim(paths))
        # A list on stdin can be read only once.
        list_again = None if sources.STDIN in paths else count
        status = run(itertools.chain(() if first is None else (first,), pictures), list_again)
    raise typer.Exit(status)
