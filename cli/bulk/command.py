"""``smart-iqa score-bulk``."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DefaultExcludesOption, ExcludeOption, PoliciesOption, PolicyOption, StrictOption, ThreadsOption

if TYPE_CHECKING:
    from cli.bulk.run import UnitScorer


def score_bulk(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Folders, quoted globs, pictures, zip and tar archives, WebDataset shards such as "
            "'shards/{000..099}.tar', lists (.csv, .parquet), or URIs of them such as s3://bucket/photos."
        ),
    ],
    output: Annotated[
        str,
        typer.Argument(
            help="Folder or URI for Parquet files of scores. The same command goes on there after an interruption."
        ),
    ],
    column: Annotated[
        str | None, typer.Option(help="Column of lists with paths or URIs; path or uri if left out.")
    ] = None,
    unit: Annotated[int, typer.Option(min=1, help="Pictures in a file of scores at most.")] = 1000,
    crops: Annotated[
        str | None,
        typer.Option(
            help="Crops per picture, 1 to 64; the model's own count if left out; auto for as many of those as it needs."
        ),
    ] = None,
    exclude: ExcludeOption = None,
    default_excludes: DefaultExcludesOption = True,
    strict: StrictOption = False,
    policy: PolicyOption = None,
    policies: PoliciesOption = None,
    photos: Annotated[
        bool, typer.Option("--photos", help="Also keep what smart-iqa pick --scores needs, some 5 kB a picture.")
    ] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; the default model if left out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8.")] = "auto",
    threads: ThreadsOption = 0,
    ray: Annotated[bool, typer.Option("--ray", help="Score on a Ray cluster.")] = False,
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of its head; $RAY_ADDRESS if left out, and without that Ray starts on this machine."
        ),
    ] = None,
    engines: Annotated[
        int | None,
        typer.Option(min=1, help="Engines in the cluster; as many as it has cores or GPUs for if left out."),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(min=0, help="GPUs of an engine; with --ray 1 if the cluster has any, 0 for cores, or a fraction."),
    ] = None,
) -> None:
    """Score pictures by the million, on this machine or on a Ray cluster.

    Writes a row per picture, with an error where it could not be scored. Ends with status 1 if there were any.
    """
    from cli.bulk import cluster, local
    from cli.bulk import job as jobs
    from cli.bulk.listing import contents_of_lists, units
    from cli.bulk.run import run
    from cli.bulk.stores import Store, is_uri
    from cli.console import SOME_FAILED, fail, notes
    from cli.options import crops_option, device_option, policy_option, precision_option
    from cli.pictures.exclusions import Exclusions
    from cli.pictures.sources import STDIN, Search

    crop_count, device_name, precision_name = crops_option(crops), device_option(device), precision_option(precision)
    chosen = policy_option(policy, policies, None)
    if STDIN in inputs:
        fail("a list on stdin cannot be read again by a run that goes on; write it into a file, as .csv")
    if not ray and (address or engines or gpus is not None):
        fail("--address, --engines and --gpus are for --ray")
    if ray and threads:
        fail("--threads is not for --ray, whose engines have a thread each; say how many with --engines")
    store = Store(output)
    search = Search(Exclusions(exclude or (), defaults=default_excludes))
    unit_scorer: AbstractContextManager[UnitScorer]
    if ray:
        unit_scorer = cluster.open_scorer(
            checkpoint,
            crop_count,
            chosen,
            device=device_name,
            precision=precision_name,
            address=address,
            engines=engines,
            gpus=gpus,
            photos=photos,
        )
    else:
        unit_scorer = local.open_scorer(
            checkpoint,
            crop_count,
            chosen,
            device=device_name,
            precision=precision_name,
            threads=threads,
            photos=photos,
        )
    with jobs.locked(store), unit_scorer as scorer:
        settings = {
            "inputs": [name if is_uri(name) else os.path.abspath(name) for name in inputs],
            "column": column,
            "unit": unit,
            **search.exclusions.settings(),
            "lists": contents_of_lists(inputs),
            **scorer.settings,
        }
        job = jobs.resume(store, settings)
        if job is None:
            with notes.status("looking for pictures ..."):
                listed = units(inputs, unit, column, search)
                job = jobs.begin(store, settings, listed, search.not_looked_at)
        status = run(job, scorer)
        job.not_looked_at.tell()
        if strict and job.not_looked_at.count and not status:
            status = SOME_FAILED
    raise typer.Exit(status)
