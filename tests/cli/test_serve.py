"""What ends ``smart-iqa serve`` before it listens, and the line that every start writes."""

import logging
import shutil
import socket
from pathlib import Path

import pytest
import torch

from app.observability.start import log_start
from app.server import Server, name_of
from app.settings import Settings, read
from cli.main import main

MODELS = ["smart-lite"]


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that is to end with status 2 and one sentence, which is returned."""

    def run(_: Server) -> None:
        raise AssertionError("it would listen")

    monkeypatch.setattr(Server, "run", run)
    monkeypatch.setattr("sys.argv", ["smart-iqa", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    return sentence


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("API_KEY_FILE", "keys", "there is no setting SMARTIQA_API_KEY_FILE; did you mean SMARTIQA_API_KEYS_FILE?"),
        ("API_KEYS_FILE", "nowhere", "SMARTIQA_API_KEYS_FILE: nowhere: No such file or directory"),
        ("POLICIES", "nowhere", "SMARTIQA_POLICIES: nowhere: No such file or directory"),
        ("DEVICE", "cuda", "SMARTIQA_DEVICE: device cuda was asked for, but this machine has no usable CUDA devices"),
        (
            "DEVICE",
            "cuda:7",
            "SMARTIQA_DEVICE: device cuda:7 was asked for, but this machine has no usable CUDA devices",
        ),
    ],
)
def test_what_cannot_be_used_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, sentence: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(f"SMARTIQA_{name}", value)
    assert ended(monkeypatch, capsys, "serve") == f"error: {sentence}"


def test_a_device_that_is_not_there_ends_a_start_on_ray_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "no usable CUDA devices" in ended(monkeypatch, capsys, "serve", "--ray", "--device", "cuda")


def test_a_checkpoint_that_is_not_prepared_for_int8_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint_folder: Path
) -> None:
    sentence = ended(
        monkeypatch, capsys, "serve", "--precision", "int8", "--device", "cpu", "--checkpoint", str(checkpoint_folder)
    )
    assert sentence.startswith(f"error: SMARTIQA_PRECISION: {checkpoint_folder} is not prepared for int8")


def test_two_checkpoints_of_one_name_end_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkpoint_folder, tmp_path / "copy")
    folders = ("--checkpoint", str(checkpoint_folder), "--checkpoint", str(tmp_path / "copy"))
    assert "SMARTIQA_CHECKPOINTS: two checkpoints have the same name" in ended(monkeypatch, capsys, "serve", *folders)


@pytest.mark.parametrize(
    "command",
    [
        ["score", "x.jpg"],
        ["score-bulk", ".", "out"],
        ["compare", "x.jpg", "y.jpg"],
        ["pick", "."],
    ],
)
def test_every_command_says_that_its_device_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    for name in ("x.jpg", "y.jpg"):
        (tmp_path / name).write_bytes(b"")
    assert "no usable CUDA devices" in ended(monkeypatch, capsys, *command, "--device", "cuda")


def start_line(caplog: pytest.LogCaptureFixture, settings: Settings, who: str) -> logging.LogRecord:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        log_start(settings, who=who, addresses=["127.0.0.1:8000"], models=MODELS, device="cpu")
    (record,) = caplog.records
    return record


def test_the_line_of_a_start(caplog: pytest.LogCaptureFixture) -> None:
    settings = read(threads=3, decoder="threads", cors_origins="https://a.example", key_crops_per_second=5)
    record = start_line(caplog, settings, "open to everybody, admin keys: 0")
    message = record.getMessage()
    for part in (
        *("open to everybody, admin keys: 0; listens on 127.0.0.1:8000;", "pages of other origins: https://a.example"),
        *("models: smart-lite;", "device: cpu, precision: auto, threads: 3;", "decoder: 2 threads;"),
        *("max_body_bytes=33554432", "max_pixels=64000000", "key_crops_per_second=5.0"),
    ):
        assert part in message
    assert record.levelno == logging.INFO


def test_the_line_warns_where_other_machines_may_ask_without_a_key(caplog: pytest.LogCaptureFixture) -> None:
    for host in ("0.0.0.0", "::", "10.0.0.1", "photos.example"):
        assert start_line(caplog, read(host=host), "").levelno == logging.WARNING
    for settings in (
        read(host="127.0.0.2"),
        read(host="::1"),
        read(host="localhost"),
        read(host="0.0.0.0", api_keys=("ann:" + "0" * 64,)),
    ):
        assert start_line(caplog, settings, "").levelno == logging.INFO


@pytest.mark.parametrize(
    ("family", "host", "shown"), [(socket.AF_INET, "127.0.0.1", "127.0.0.1:"), (socket.AF_INET6, "::1", "[::1]:")]
)
def test_addresses_as_people_write_them(family: socket.AddressFamily, host: str, shown: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        assert name_of(listener) == f"{shown}{listener.getsockname()[1]}"
