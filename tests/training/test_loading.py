"""Batches from other processes: the same as from this one, or an end with a sentence."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tests import commands
from training import loading
from training.errors import TrainingError
from training.loading import batches, watched

NARROW = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 0x44000, None):
    sys.exit(77)
if libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=64k"):
    sys.exit(77)
import torch
from training.loading import batches, watched

class Pictures(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, place):
        return torch.full((1_000_000,), place, dtype=torch.uint8)

with watched():
    print([int(batch.sum()) for batch in batches(Pictures(), torch.stack, decoders=2, batch_size=2)])
"""
"""Batches of two megabytes where /dev/shm has 64 kB; 77 if this machine lends no such place."""


class Pictures(Dataset[Tensor]):
    """Three pictures; what becomes of the second is the test's."""

    def __init__(self, second: Callable[[], object] = lambda: None) -> None:
        self._second = second

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: int) -> Tensor:
        if place == 1:
            self._second()
        return torch.full((2,), place)


def read(second: Callable[[], object] = lambda: None, decoders: int = 1) -> list[list[int]]:
    with watched():
        return [batch.flatten().tolist() for batch in batches(Pictures(second), torch.stack, decoders=decoders)]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def vanish() -> None:
    raise FileNotFoundError(2, "No such file or directory", "photo.jpg")


@pytest.mark.parametrize("decoders", [0, 1, 2])
def test_batches_come_in_order(decoders: int) -> None:
    assert read(decoders=decoders) == [[0, 0], [1, 1], [2, 2]]


def test_a_decoder_that_dies_ends_the_run_with_a_sentence() -> None:
    with pytest.raises(TrainingError, match=r"^a process that decodes pictures died, .*--decoders.*untouched$"):
        read(kill)


def test_a_picture_that_is_stuck_ends_the_run_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "SECONDS", 1.0)
    with pytest.raises(TrainingError, match=r"^no batch of pictures came within 1 s, .*--decoders.*untouched$"):
        read(lambda: time.sleep(60))


def test_a_picture_that_is_gone_is_named_in_a_sentence() -> None:
    with pytest.raises(TrainingError, match=r"^a picture cannot be made ready: .*photo\.jpg'$"):
        read(vanish)


def test_errors_of_the_run_itself_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^of another kind$"), watched():
        raise RuntimeError("of another kind")


def test_batches_do_not_need_shared_memory(tmp_path: Path) -> None:
    """A container has 64 MB of it by default."""
    done = commands.python(NARROW, tmp_path)
    if done.returncode == 77:
        pytest.skip("no mount namespace may be made here")
    assert (done.returncode, done.stdout) == (0, "[1000000, 5000000]\n"), done.stderr


def test_every_loader_of_pictures_is_watched() -> None:
    """torch's own loader waits for ever, and loses batches that find no room in /dev/shm."""
    sources = Path(loading.__file__).parent.rglob("*.py")
    assert [file.name for file in sources if "DataLoader(" in file.read_text(encoding="utf-8")] == ["loading.py"]
