"""The phases of a start in the order in which ``smart-iqa serve`` goes through them, for ``benchmarks.startup``.

Run in a process of its own with the time at which that was started, by the monotonic clock that all processes share.
It imports piece by piece what the service imports at once, and prints the seconds that each phase took.
"""

import json
import sys
import time


def main(began: float) -> None:
    """Start, without listening."""
    seconds: dict[str, float] = {}

    def mark(phase: str) -> None:
        nonlocal began
        now = time.monotonic()
        seconds[phase] = now - began
        began = now

    mark("interpreter")
    import cli.main

    assert cli.main
    mark("import command line")
    import torch

    assert torch
    mark("import torch")
    import timm

    assert timm
    mark("import timm")
    import uvicorn

    from app.http import protocol  # noqa: F401  # as the command does
    from app.main import create_app
    from app.server import Server
    from app.settings import Settings

    app = create_app(Settings())
    Server(app, uvicorn.Config(app), drain_seconds=0)
    mark("application")
    from model import checkpoint, golden
    from model.inference.engine import Engine
    from model.options import DEFAULT_CHECKPOINT
    from model.scorer import Scorer

    loaded = checkpoint.load(DEFAULT_CHECKPOINT)
    mark("checkpoint")
    engine = Engine.of(loaded)
    mark("engine and warm-up")
    golden.verify(Scorer(loaded, engine))
    mark("golden pictures")
    json.dump(seconds, sys.stdout)


if __name__ == "__main__":
    main(float(sys.argv[1]))
