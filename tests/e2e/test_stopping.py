"""The program is told to stop, or starved, at any moment between its start and readiness: it ends with a status of its
own, a sentence where it failed, and leaves nothing behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import commands
from tests.conftest import ROOT
from tests.e2e.conftest import free_port

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
COFFEE = ROOT / "examples" / "coffee.jpg"
STOP = (signal.SIGTERM, signal.SIGINT)
EVERY = 200
"""Modules that are imported between two moments."""
IMPORTS = f"""
import os, signal, sys

imported, statuses = 0, []

def stop_forks(event, _):
    global imported
    if event == "socket.bind":
        print(*statuses, flush=True)
        os._exit(0)
    if event != "import" or signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        return
    imported += 1
    if imported % {EVERY} == 1:
        for number in (signal.SIGTERM, signal.SIGINT):
            if (child := os.fork()) == 0:
                imported = -10**9
                os.kill(os.getpid(), number)
                return
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

sys.addaudithook(stop_forks)
from cli.__main__ import start
start()
"""
"""Forks at moments of the imports, and tells how the forks end that get a signal there."""
MOMENT = """
import importlib, os, signal, sys
module, name, number = sys.argv.pop(1).split()
holder = importlib.import_module(module)
*outer, name = name.split(".")
for part in outer:
    holder = getattr(holder, part)
usual = getattr(holder, name)

def stop(*arguments, **named):
    os.kill(os.getpid(), int(number))
    return usual(*arguments, **named)

setattr(holder, name, stop)
from cli.__main__ import start
start()
"""
"""Gets a signal at a call."""
MOMENTS = (
    ("model.checkpoint", "inspect"),
    ("app.server", "listen"),
    ("app.main", "create_app"),
    ("app.decode.sandbox", "Sandbox.__init__"),
    ("app.models.loading", "checkpoint.load"),
    ("app.models.loading", "TorchEngine.warm"),
    ("app.models.loading", "golden.verify"),
    ("app.models.loading", "autotune"),
    ("app.models.manager", "LocalModelManager.put"),
)
AS_PID_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
AS_NOBODY = ("unshare", "--user", "--map-user=54321", "--map-group=54321")


def available(command: tuple[str, ...]) -> bool:
    return bool(shutil.which(command[0])) and not subprocess.run([*command, "true"], capture_output=True).returncode


def script(tmp_path: Path, text: str) -> str:
    (tmp_path / "script.py").write_text(text)
    return str(tmp_path / "script.py")


def left_behind(sign: str) -> list[str]:
    """Processes whose command line holds a word, after the time that they may take to notice."""
    for _ in range(100):
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found += [str(file)] if sign in file.read_text(errors="replace").split("\0") else []
            except OSError:
                continue
        if not found:
            return []
        time.sleep(0.1)
    return found


def test_stopped_while_it_imports(tmp_path: Path) -> None:
    """SIGTERM and SIGINT at many moments: a service has not failed when it is told to stop."""
    command = [sys.executable, script(tmp_path, IMPORTS), "serve", "--port", "0"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    statuses = done.stdout.split()
    assert done.returncode == 0, done.stderr
    assert len(statuses) >= 2 * 10
    assert {*statuses} == {"0"}, statuses
    assert not done.stderr


@pytest.mark.parametrize(
    ("module", "name", "number"), [(*moment, STOP[place % 2]) for place, moment in enumerate(MOMENTS)]
)
def test_stopped_while_it_starts(tmp_path: Path, module: str, name: str, number: int) -> None:
    # A number that the command lines of its decoder processes have, and no others.
    memory = str(3 * 2**30 + free_port())
    environment = {**ENVIRONMENT, "SMARTIQA_DECODER_MEMORY_BYTES": memory}
    command = [str(commands.folder() / "python"), script(tmp_path, MOMENT), f"{module} {name} {int(number)}"]
    done = subprocess.run(
        [*command, "serve", "--port", "0"], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert left_behind(memory) == []


@pytest.mark.skipif(not available(AS_PID_1), reason="no PID namespace may be made here")
def test_stopped_as_pid_1_in_its_first_moment(tmp_path: Path) -> None:
    """A kernel drops a signal for PID 1 that nothing handles."""
    text = MOMENT.replace("    os.kill(os.getpid(), int(number))\n    return usual", "    usual").replace(
        "usual(*arguments, **named)", "usual(*arguments, **named)\n    os.kill(os.getpid(), int(number))"
    )
    moment = f"cli.signals prepare {int(signal.SIGTERM)}"
    command = [*AS_PID_1, sys.executable, script(tmp_path, text), moment, "serve", "--port", "0"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_that_is_stopped_while_it_imports_says_by_what(tmp_path: Path) -> None:
    text = MOMENT.replace("setattr(holder, name, stop)", "setattr(holder, name, stop)\nsys.argv[0] = 'smart-iqa'")
    for number, status in zip(STOP, (143, 130), strict=True):
        command = [
            str(commands.folder() / "python"),
            script(tmp_path, text),
            f"cli.scoring.scorer load_scorer {number}",
        ]
        done = subprocess.run([*command, "score", str(ROOT / "examples")], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_a_port_in_use_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    text = MOMENT.replace("os.kill(os.getpid(), int(number))", "raise AssertionError('the application was made')")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [str(commands.folder() / "python"), script(tmp_path, text), "app.main create_app 0"]
        done = subprocess.run([*command, "serve", "--port", port], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: the service cannot listen on 127.0.0.1 port {port}: Address already in use\n"


@pytest.mark.skipif(not shutil.which("prlimit"), reason="needs util-linux")
def test_starved_of_memory() -> None:
    command = ["prlimit", "--as=200000000", sys.executable, "-m", "cli", "score", str(COFFEE)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: there is too little memory")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not available(AS_NOBODY), reason="no user namespace may be made here")
def test_scores_as_an_unknown_user_without_a_home() -> None:
    bare = {name: ENVIRONMENT[name] for name in ("PYTHONPATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [
        *AS_NOBODY,
        sys.executable,
        "-m",
        "cli",
        "score",
        "--format",
        "jsonl",
        str(ROOT / "examples" / "coffee.jpg"),
    ]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert '"score": 80.96' in done.stdout
