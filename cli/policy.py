"""``smart-iqa policy``: policies, which decide about pictures."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DefaultExcludesOption, ExcludeOption, LanguageOption, StrictOption, ThreadsOption

app = typer.Typer(help="Policies: rules that accept, review or reject pictures.", no_args_is_help=True)


@app.command()
def show() -> None:
    """Write the shipped policies to stdout, to begin one's own with."""
    from model.policies import SHIPPED

    typer.echo(SHIPPED.read_text(encoding="utf-8"), nl=False)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="File of policies.")],
) -> None:
    """Check a file of policies, and list its rules.

    Ends with status 2 if it cannot be used: rules that are not understood, can never hold or never decide.
    """
    from rich import box
    from rich.table import Table

    from cli.console import results
    from model.policies import Policies

    for policy in Policies.load(file):
        languages = ", ".join(("en", *policy.languages))
        table = Table(box=box.SIMPLE_HEAD, title=f"{policy.name}, version {policy.version[:19]}", title_justify="left")
        for column in ("code", "rule"):
            table.add_column(column, overflow="fold")
        for rule in policy.rules:
            table.add_row(rule.code, rule.text)
        table.add_row("", f"{policy.otherwise} otherwise")
        results.print(table, markup=False)
        results.print(f"messages: {languages}; keys: {', '.join(policy.keys) or 'none'}", markup=False)


@app.command("try")
def try_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="File of policies.")],
    photos: Annotated[list[str], typer.Argument(help="Pictures, folders of them, archives, quoted globs.")],
    policy: Annotated[str | None, typer.Option(help="Which policy; needed if there are several.")] = None,
    language: LanguageOption = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; the default model if left out.")] = None,
    html: Annotated[Path | None, typer.Option(help="Page to write: the pictures, what was decided, and why.")] = None,
    exclude: ExcludeOption = None,
    default_excludes: DefaultExcludesOption = True,
    strict: StrictOption = False,
    threads: ThreadsOption = 0,
) -> None:
    """Show what a policy would decide about pictures, and how often for which reason.

    Ends with status 3 if it rejects one, and with 1 if one could not be scored.
    """
    from cli.console import fail
    from cli.score.command import score
    from model.policies import Policies

    names = list(Policies.load(file).by_name)
    if policy is None and len(names) > 1:
        fail(f"say which one with --policy; there are {', '.join(names)}")
    chosen = policy or names[0]
    context.invoke(
        score,
        paths=photos,
        policy=chosen,
        policies=file,
        language=language,
        checkpoint=checkpoint,
        html=html,
        exclude=exclude,
        default_excludes=default_excludes,
        strict=strict,
        threads=threads,
    )
