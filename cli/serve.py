"""``smart-iqa serve``."""

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="Checkpoint folder; repeat for several, the first is the default model.")
    ] = None,
    policies: Annotated[Path | None, typer.Option(help="File of policies; the shipped ones if left out.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda (all GPUs) or cuda:1 (one of them).")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or int8.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of the engine; 0 takes what was measured as fastest.")
    ] = None,
    ray: Annotated[
        bool,
        typer.Option("--ray", help="Serve from the Ray cluster that RAY_ADDRESS names, or from one on this machine."),
    ] = False,
) -> None:
    """Serve scores over HTTP.

    Options beat the environment variables SMARTIQA_*, which docs/settings.md lists in full.
    """
    import uvicorn

    from app.http import protocol
    from app.main import create_app
    from app.observability import logs
    from app.observability.start import log_start
    from app.server import Server, listen, name_of
    from app.settings import blaming, read, variable
    from cli.console import SOME_FAILED, fail
    from cli.signals import Stopped
    from model import checkpoint as checkpoints
    from model.policies import SHIPPED, Policies

    given = {"host": host, "port": port, "checkpoints": checkpoint, "policies": policies}
    given |= {"device": device, "precision": precision, "threads": threads}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    settings = read(**options)
    # Checked here, so that what cannot be used ends the command at once, not by a readiness probe that never passes.
    models = [checkpoints.inspect(folder)[0].name for folder in settings.checkpoints]
    if len({*models}) < len(models):
        fail(f"{variable('checkpoints')}: two checkpoints have the same name; the names are {', '.join(models)}")
    with blaming(variable("policies")):
        Policies.load(settings.policies or SHIPPED)
    address = os.environ.get("RAY_ADDRESS") if ray else None
    # The machines of a cluster have devices of their own.
    device = settings.device if address else _usable_device(settings)
    logs.configure(settings)
    if ray:
        from app.cluster import launch

        launch.run(settings, address, models, device)
        return
    device_lost = False

    def stop() -> None:
        nonlocal device_lost
        device_lost = True
        server.give_up(settings.lost_seconds)

    try:
        listeners = listen(settings.host, settings.port)
    except OSError as error:
        fail(f"the service cannot listen on {settings.host} port {settings.port}: {error.strerror}")
    with ExitStack() as open_files:
        for listener in listeners:
            open_files.enter_context(listener)
        app = create_app(settings, on_loss=stop)
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=protocol.protocol(settings, app.state.metrics) or "auto",
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=list(settings.trusted_proxies),
            ws="none",
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=settings.shutdown_seconds,
        )
        addresses = [name_of(listener) for listener in listeners]
        log_start(settings, who=str(app.state.access), addresses=addresses, models=models, device=device)
        server = Server(app, config, drain_seconds=settings.drain_seconds)
        # uvicorn has shut down when it raises again the signal that ended it.
        with suppress(Stopped, KeyboardInterrupt):
            try:
                server.run(listeners)
            except SystemExit:
                fail("the service could not start; the log says why", status=SOME_FAILED)
    if device_lost:
        # An error status, so that a supervisor starts the service again.
        fail("the device is lost", status=SOME_FAILED)


def _usable_device(settings: "Settings") -> str:
    """The device of the settings; ends the command if it is not there, or cannot compute what is asked for."""
    from app.settings import variable
    from cli.console import fail
    from model.checkpoint import INT8
    from model.inference.engine import resolve_device

    try:
        device = resolve_device(settings.device)
    except ValueError as error:
        fail(f"{variable('device')}: {error}")
    if settings.precision == "int8":
        if device != "cpu":
            fail(f"{variable('precision')}: int8 needs the CPU, and the device is {device}")
        for folder in settings.checkpoints:
            if not (folder / INT8).exists():
                fail(f"{variable('precision')}: {folder} is not prepared for int8; `smart-iqa models quantise` does it")
    return device
