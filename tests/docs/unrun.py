"""Commands that cost too much to be run are checked: programs, options, recipes, targets and files must exist."""

import importlib.util
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from cli.main import app
from tests.conftest import ROOT
from training import recipe, sweep

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHELL = {"touch", "source", "cd", "pip3", "python3", "export"}
"""What needs no checking."""


def commands(script: str) -> Iterator[list[str]]:
    """Split a shell script into commands, without comments, assignments and redirections."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;"):
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words:
                    yield words[: words.index(">")] if ">" in words else words
                words = []
            else:
                words.append(word)


def check(words: Sequence[str]) -> None:
    """Complain about a command that could not work.

    Raises:
        AssertionError: It names something that is not there, or is none that is known here.
        TyperException: ``smart-iqa`` has no such command, option or argument.
        ValueError: There is no such recipe, sweep or field.
    """
    program = words[0].removeprefix(".venv/bin/")
    if program == "torchrun":
        program, words = "smart-iqa", words[words.index("smart-iqa") :]
    known = CHECKS.get(program)
    assert known or program in SHELL, f"{program} is no command that is known here"
    if known:
        known(list(words[1:]))


def _smart_iqa(arguments: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    context: Any = None
    name: Any = "smart-iqa"
    if arguments[0].startswith("-"):
        # --version, --install-completion: to parse one would be to do it.
        assert arguments[0] in {option for parameter in command.params for option in parameter.opts}, arguments[0]
        return
    while isinstance(command, TyperGroup):
        context = command.make_context(name, arguments, parent=context)
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
    given = command.make_context(name, arguments, parent=context).params
    if name == "train":
        recipe.load(Path(given["recipe"]), given["change"] or ())
    elif name == "sweep":
        sweep.load(Path(given["file"]), given["change"] or ())


def _pip(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    for place, word in enumerate(arguments):
        if arguments[place - 1] in ("-c", "-r", "-e") or word.startswith((".", "/")):
            assert (ROOT / word.partition("[")[0]).exists(), word
        for extras in re.findall(r"(?:^\.|smart-iqa)\[(.+)\]", word):
            assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"]), word


def _pipx(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    assert Path(arguments[1]).name.startswith(f"smart_iqa-{PROJECT['version']}-")


def _make(arguments: list[str]) -> None:
    subprocess.run(["make", "--dry-run", "--quiet", *arguments], cwd=ROOT, check=True, capture_output=True)


def _python(arguments: list[str]) -> None:
    if arguments[0] != "-m" or arguments[1] == "venv":
        assert arguments[0] == "-m" or (ROOT / arguments[0]).is_file(), arguments[0]
        return
    module = importlib.util.find_spec(arguments[1])
    assert module is not None, arguments[1]
    assert module.origin is not None
    source = Path(module.origin).read_text(encoding="utf-8")
    for word in arguments[2:]:
        if word.startswith("--"):
            assert f'"{word}"' in source, word


def _docker(arguments: list[str]) -> None:
    if arguments[0] == "compose":
        assert (ROOT / "docker-compose.yml").is_file()
    if arguments[0] == "build":
        known = re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
        given = [word for place, word in enumerate(arguments) if arguments[place - 1] == "--build-arg"]
        assert {word.partition("=")[0] for word in given} <= set(known)


def _kubectl(arguments: list[str]) -> None:
    assert arguments[:2] == ["apply", "-k"]
    assert (ROOT / arguments[2] / "kustomization.yaml").is_file()


def _promtool(arguments: list[str]) -> None:
    files = [word for word in arguments if "/" in word]
    assert files
    assert all(list(ROOT.glob(file)) for file in files)


def _serve(arguments: list[str]) -> None:
    action, config = arguments
    assert action == "deploy"
    assert (ROOT / config).is_file(), config


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "docker": _docker,
    "kubectl": _kubectl,
    "make": _make,
    "pip": _pip,
    "pipx": _pipx,
    "promtool": _promtool,
    "python": _python,
    "serve": _serve,
    "smart-iqa": _smart_iqa,
}
