"""``smart-iqa health``."""

from pathlib import Path
from typing import Annotated, Any

import typer

ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that mean all of this machine's, and which of them is asked."""


def health(
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether it takes work too, which it does not while it loads or drains.")
    ] = False,
    host: Annotated[str | None, typer.Option(help="Address that it listens on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port that it listens on.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="File with a key, where the probes ask for one.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")] = 2.0,
) -> None:
    """Ask the service on this machine whether it is alive: status 0 if it is, 1 if not.

    Address and port are those of the variables SMARTIQA_*, as for smart-iqa serve. Proxies are never used.
    """
    import http.client
    import json

    from app.settings import Settings
    from cli.console import SOME_FAILED, fail, results

    options: dict[str, Any] = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = Settings(**options)
    if settings.port == 0:
        fail("the service took a free port: name it with --port")
    headers = {"X-API-Key": key_file.read_text(encoding="utf-8").strip()} if key_file else {}
    # Of the standard library: it knows nothing of proxies, and is there at once.
    connection = http.client.HTTPConnection(ANY.get(settings.host, settings.host), settings.port, timeout=timeout)
    try:
        connection.request("GET", f"/health/{'ready' if ready else 'live'}", headers=headers)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        said = body["detail"] if "detail" in body else body["status"]
    except (OSError, http.client.HTTPException, ValueError, TypeError, KeyError) as error:
        reason = str(error) or type(error).__name__
        fail(f"no answer from the service on {settings.host} port {settings.port}: {reason}", status=SOME_FAILED)
    finally:
        connection.close()
    if answer.status == 401:
        said = "the probes ask for a key: name a file that holds one with --key-file"
    if answer.status != 200:
        fail(said, status=SOME_FAILED)
    results.print(said, markup=False)
