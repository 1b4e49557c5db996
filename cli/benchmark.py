"""``smart-iqa benchmark``."""

from typing import Annotated

import typer

app = typer.Typer(help="What networks cost.", no_args_is_help=True)


@app.callback()
def benchmark() -> None:
    """Make ``complexity`` a command of its own name, even while it is the only one."""


@app.command("complexity")
def complexity(
    network: Annotated[
        list[str] | None, typer.Argument(help="Preset names; smart-mobile, -tiny, -small and -base if left out.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Crops to a batch for the throughput.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs of each.")] = 10,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json_: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
) -> None:
    """Parameters, multiply-accumulates, latency and throughput of networks, in fp32 for crops of 224x224."""
    import dataclasses
    import json

    import torch
    from rich import box
    from rich.table import Table

    from cli.console import notes, results
    from cli.options import device_option
    from model.engine import resolve_device
    from training import complexity as costs

    where = resolve_device(device_option(device))
    names = network or ["smart-mobile", "smart-tiny", "smart-small", "smart-base"]
    measured = []
    with notes.status("measuring ...") as status:
        for name in names:
            status.update(f"measuring {name} ...")
            measured.append(costs.measure(name, batch=batch, rounds=rounds, device=where))
    if json_:
        for cost in measured:
            results.print(json.dumps(dataclasses.asdict(cost)), markup=False, soft_wrap=True)
        return
    kind = torch.cuda.get_device_name() if where == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    title = f"fp32, 224x224 crops, {kind}, torch {torch.__version__}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for column in ("network", "params (M)", "GMACs", "ms, 1 crop", f"crops/s, {batch}", "relative speed"):
        table.add_column(column, justify="left" if column == "network" else "right")
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
