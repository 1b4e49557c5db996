"""``smart-iqa serve``."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer


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
    from pydantic import ValidationError

    from app.http import protocol
    from app.main import create_app
    from app.observability import logs
    from app.server import Server
    from app.settings import Settings
    from cli.console import SOME_FAILED, fail
    from model import checkpoint as checkpoints
    from model.policies import SHIPPED, Policies

    given = {"host": host, "port": port, "checkpoints": checkpoint, "policies": policies}
    given |= {"device": device, "precision": precision, "threads": threads}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        settings = Settings(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"][:1]) or "settings"
        fail(f"SMARTIQA_{name.upper()}: {first['msg']}")
    # Checked here, so that what cannot be used ends the command at once, not by a readiness probe that never passes.
    for folder in settings.checkpoints:
        checkpoints.inspect(folder)
    Policies.load(settings.policies or SHIPPED)
    logs.configure(settings)
    if ray:
        from app.cluster import launch

        launch.run(settings, os.environ.get("RAY_ADDRESS"))
        return
    device_lost = False

    def stop() -> None:
        nonlocal device_lost
        device_lost = True
        server.give_up(settings.lost_seconds)

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
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    server = Server(app, config, drain_seconds=settings.drain_seconds)
    try:
        server.run()
    except SystemExit as error:
        fail(f"the service could not start on {settings.host} port {settings.port}: exit status {error.code}")
    except KeyboardInterrupt:
        # uvicorn has shut down, and raises again the signal that ended it.
        pass
    if device_lost:
        # An error status, so that a supervisor starts the service again.
        fail("the device is lost", status=SOME_FAILED)
