"""A function for a process that dies of it. Its module imports next to nothing, so that the process need not either."""

import os
from typing import Any


def die(name: str, **_: object) -> Any:
    os._exit(len(name))
