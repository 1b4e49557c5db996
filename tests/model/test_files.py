"""Locks, on file systems that have them and on such that have none."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model import files
from model.files import Locked, all_locked, locked
from tests.conftest import ROOT

HOLD = """
import errno, fcntl, sys, time
from model import files

def none(*_):
    raise OSError(errno.ENOLCK, "No locks available")

if sys.argv[2:]:
    fcntl.flock = none
with files.locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(
    params=[None, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=["flock", "ENOLCK", "NOTSUPP", "ENOSYS"]
)
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """File systems with locks and without."""
    number: int | None = request.param
    if number is not None:

        def none(*_: Any) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", none)
    return number is not None


@pytest.mark.usefixtures("without")
def test_a_second_run_is_kept_out_and_nothing_stays(tmp_path: Path) -> None:
    target = tmp_path / "new" / "scores.csv"
    with locked(target):
        with pytest.raises(Locked, match=r"writing .*scores\.csv"), locked(target):
            pass
        with locked(tmp_path / "new" / "others.csv"):
            pass
    assert list(target.parent.iterdir()) == []
    with locked(target):
        pass


@pytest.mark.usefixtures("without")
def test_of_several_files_all_or_none_are_locked(tmp_path: Path) -> None:
    with locked(tmp_path / "b"), pytest.raises(Locked), all_locked(tmp_path / "a", None, tmp_path / "b"):
        pass
    with all_locked(tmp_path / "a", tmp_path / "b"):
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == []


def test_another_process_is_kept_out_until_it_is_killed(without: bool, tmp_path: Path) -> None:
    """One that was killed leaves its lock; the next run on that machine takes it, even without locks."""
    target = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(target), *(["without"] if without else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Locked, match="writing"), locked(target):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (tmp_path / ".run.lock").exists()
        with locked(target):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("owner", ["process 1 of elsewhere", ""])
def test_without_locks_a_lock_of_another_machine_is_told_and_stays(
    owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    (tmp_path / ".run.lock").write_text(owner)
    with pytest.raises(Locked, match=r"no locks, so delete .*run\.lock if no run is at work"), locked(tmp_path / "run"):
        pass
    assert (tmp_path / ".run.lock").read_text() == owner


def test_a_lock_that_was_freed_while_it_was_opened_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking, its run ends and deletes it: the file that is locked then is nobody's."""
    lock, real = tmp_path / ".run.lock", files._flock
    lock.touch()

    def flock(handle: int) -> None:
        monkeypatch.setattr(files, "_flock", real)
        lock.unlink()
        real(handle)

    monkeypatch.setattr(files, "_flock", flock)
    with locked(tmp_path / "run"):
        assert lock.exists()
        with pytest.raises(Locked), locked(tmp_path / "run"):
            pass


def test_other_errors_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path / "run"):
        pass
