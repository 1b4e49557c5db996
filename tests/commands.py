"""A ``smart-iqa`` and a ``python`` that do not wait for torch to be imported each time.

One process has imported everything and waits at a socket. The two commands are small scripts that hand it their
arguments, folder, environment and open files; it forks, and the fork does what the command would have done. So tests
run commands as users do, in shell scripts with pipes and redirections too, and each costs what it computes. Signals go
through, and a script ends as its fork does, by a signal too.
"""

import atexit
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NoReturn

from tests.conftest import ROOT

_ASK = """#!{python} -IS
import json, os, signal, socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect({address!r})
what = json.dumps([{command!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(asked, [len(what).to_bytes(4, "big")], [0, 1, 2])
asked.sendall(what)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: asked.sendall(bytes([number])))
status = int.from_bytes(asked.recv(2) or b"\\0\\xff", "big", signed=True)
if status < 0:
    if -status in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""

_FORGET = """import sys
for name in list(sys.modules):
    if name.partition(".")[0] in ("app", "cli", "model", "training"):
        del sys.modules[name]
"""


def smart_iqa(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the command as a user does."""
    command = [str(folder() / "smart-iqa"), *map(str, arguments)]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=cwd, timeout=300, check=False
    )


def python(script: str, tmp_path: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a script in which no module of the project has been imported yet, although torch has."""
    (tmp_path / "script.py").write_text(_FORGET + script)
    command = [str(folder() / "python"), str(tmp_path / "script.py"), *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)


def folder() -> Path:
    """Folder of the two commands, for the PATH."""
    return _started()


@cache
def _started() -> Path:
    """Start the process behind the commands."""
    # Names of sockets are short.
    made = Path(tempfile.mkdtemp(prefix="iqa"))
    address = str(made / "s")
    for command in ("smart-iqa", "python"):
        (made / command).write_text(_ASK.format(python=sys.executable, address=address, command=command))
        (made / command).chmod(0o755)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "clients" / "python"))),
        # A process with one thread can be forked without a doubt.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=ROOT,
    )
    # It ends with its standard input, at the latest when this process does.
    atexit.register(process.communicate)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return made


def wait(address: str) -> NoReturn:
    """Do what is asked for at a socket, each in a process of its own."""
    # A collector need not look through what all of them have: not while it is imported, and not in a fork, where each
    # page that it touches is copied.
    gc.disable()
    import training.figures.report
    import training.trainer  # noqa: F401
    from app import main, server  # noqa: F401
    from model import scorer  # noqa: F401
    from model.inference import engine

    # Of five batch shapes that every start tries out two are enough here; a score is the same at all of them.
    engine.CANDIDATE_SHAPES["crops", "cpu"] = (4, 8)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        gc.freeze()
        gc.enable()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        # Children are reaped by the kernel.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        # Standard input ends when the process that started this one does.
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            asker, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                _watch(asker)
                os._exit(0)
            asker.close()
    shutil.rmtree(Path(address).parent)
    os._exit(0)


def _watch(asker: socket.socket) -> None:
    """Do what is asked for in a process of its own; pass on to it what signals come, and to the asker how it ended."""
    length, files, _, _ = socket.recv_fds(asker, 4, 3)
    what = b""
    while len(what) < int.from_bytes(length, "big"):
        what += asker.recv(65536)
    awake, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os._exit(_answer(files, *json.loads(what)))
    for file in files:
        os.close(file)
    while asker in select.select([asker, awake], [], [])[0]:
        # An asker that is gone has been killed.
        numbers = asker.recv(16) or bytes([signal.SIGKILL])
        for number in numbers:
            os.kill(child, number)
        if signal.SIGKILL in numbers:
            break
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError):
        asker.sendall(ended.to_bytes(2, "big", signed=True))


def _answer(files: list[int], command: str, arguments: list[str], cwd: str, environment: dict[str, str]) -> int:
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(place, mode, closefd=False) for place, mode in enumerate("rww"))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments if command == "python" else [command, *arguments]
    try:
        if command == "python":
            sys.argv = arguments
            sys.path.insert(0, cwd)
            if arguments[0] == "-c":
                sys.argv = ["-c", *arguments[2:]]
                exec(arguments[1], {"__name__": "__main__"})
            else:
                sys.argv = arguments
                runpy.run_path(arguments[0], run_name="__main__")
        else:
            _smart_iqa()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status


def _smart_iqa() -> None:
    from app import server
    from cli.main import main

    def serve(self: server.Server, sockets: object) -> None:
        """Come as far as listening: a service would stay."""

    server.Server.run = serve  # type: ignore[method-assign,assignment]
    server.listen = lambda *_: []
    main()


if __name__ == "__main__":
    wait(sys.argv[1])
