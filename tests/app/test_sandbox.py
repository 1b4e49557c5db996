"""Decoding in processes: the same numbers as in threads, and what becomes of a process that is taken over or dies."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import ExifTags, Image

from app.decode import sandbox
from app.decode.decoder import Decoded, Decoder
from app.decode.errors import CallerGone
from app.decode.sandbox import Sandbox
from app.decode.sandbox_worker import ANSWER, ERROR, FACTS, PIXELS, SIZE
from app.main import create_app
from app.observability.access import current_id
from app.observability.metrics import Metrics
from app.scoring import pipeline
from app.settings import Settings
from model import images
from model.contract import Contract
from model.images import Limits, UndecodableImage
from model.images.capture import Capture
from model.picking.look import BYTES
from model.scale import Scale
from tests.app.conftest import wait_ready
from tests.app.test_pictures import BAD_PICTURES, metric, post, problem
from tests.conftest import ROOT, encode, photo
from tests.model.mutations import SEEDS

GIGABYTE = 2**30
BAD = b"bad"
FAKE = """
import os, resource, signal, socket, sys, time
from app.decode import sandbox_worker as worker
from model import images

real = images.decode

def decode(data, *arguments, **options):
    if data == b"bad":
        misbehave(*arguments)
    return real(data, *arguments, **options)

images.decode = decode
"""


def fake(monkeypatch: pytest.MonkeyPatch, misbehave: str) -> None:
    """Have workers do something else for the picture ``BAD``."""
    lines = "\n".join("    " + line for line in misbehave.splitlines())
    source = f"{FAKE}\ndef misbehave(limits=None, admit=None):\n{lines}\n\nworker.main()\n"
    monkeypatch.setattr(sandbox, "PROGRAM", ("-c", source))


def replacements(text: str) -> list[str]:
    """The lines of a scrape that count a worker replaced."""
    return [line for line in text.splitlines() if "decoders_replaced_total{" in line and not line.endswith(" 0.0")]


class Pool:
    """A sandbox of one worker, and what it told the metrics."""

    def __init__(self, *, memory_bytes: int = GIGABYTE, seconds: int = 60) -> None:
        self.metrics = Metrics()
        self.contract = Contract(scale=Scale(dataset="made-up", min=0.0, max=1.0))
        self.sandbox = Sandbox(
            workers=1, memory_bytes=memory_bytes, seconds=seconds, replaced=self.metrics.decoders_replaced
        )

    def decode(
        self,
        data: bytes,
        admit: Callable[[int], object] = lambda _: None,
        *,
        preview: bool = False,
        map_crops: bool = False,
        look: bool = False,
    ) -> sandbox.Resized:
        sha256 = hashlib.sha256(data).hexdigest()
        request = sandbox.DecodeRequest(sha256, self.contract, Limits(), preview, map_crops, look=look)
        return self.sandbox.decode(data, request, admit)

    def works(self) -> None:
        """Check that pictures are decoded."""
        data = SEEDS["PNG-colour"]
        expected = images.decode(data)
        got = self.decode(data)
        assert got.facts == expected.facts
        assert got.pixels_HWC.tobytes() == self.contract.resized(expected).tobytes()

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        return self.sandbox._idle.queue[0].process

    def replaced(self, reason: str) -> float:
        """How many were replaced for a reason; no other reason may have been counted."""
        lines = replacements(self.metrics.render().text.decode())
        assert all(f'reason="{reason}"' in line for line in lines)
        return sum(float(line.split()[-1]) for line in lines)


@pytest.fixture
def pools() -> Iterator[Callable[..., Pool]]:
    made: list[Pool] = []

    def make(**options: int) -> Pool:
        made.append(Pool(**options))
        return made[-1]

    yield make
    for pool in made:
        pool.sandbox.close()


def refused(pool: Pool, data: bytes, reason: str) -> None:
    """Check that a picture costs itself and its worker, and nothing more."""
    process = pool.process
    with pytest.raises(UndecodableImage, match="time and memory") as caught:
        pool.decode(data)
    assert type(caught.value) is UndecodableImage
    assert process.poll() is not None
    assert pool.replaced(reason) == 1
    pool.works()
    assert pool.replaced(reason) == 1


def turned() -> dict[str, bytes]:
    made = {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        made[f"orientation {orientation}"] = encode(photo(300, 200), "JPEG", exif=exif)
    return made


def large() -> dict[str, bytes]:
    rgba = photo(1500, 1100)
    rgba.putalpha(rgba.convert("L"))
    deep = Image.fromarray(np.arange(600 * 500, dtype=np.uint16).reshape(500, 600))
    return {
        "large": encode(photo(1500, 1100)),
        "large alpha": encode(rgba, "PNG", compress_level=1),
        "large deep": encode(deep, "PNG"),
        "large cmyk": encode(photo(1500, 1100).convert("CMYK"), "TIFF", compression="packbits"),
        "long": encode(photo(1600, 200), "WEBP"),
        "truncated": encode(photo())[:4000],
        "text": b"no picture",
    }


CONTRACTS = {
    "fit": {},
    "exact": {"resize": "exact", "width": 300, "height": 400},
    "none": {"resize": "none", "crops": 5},
    "scaled": {"decoding": "scaled", "width": 300, "height": 300},
    "tokens": {"view": "tokens", "crops": 1, "width": 256, "height": 256, "longer_sides": (128, 96)},
}


@pytest.mark.parametrize("kind", CONTRACTS)
def test_processes_and_threads_give_the_same_bits(kind: str) -> None:
    fields: dict[str, Any] = CONTRACTS[kind]
    contract = Contract(scale=Scale(dataset="made-up", min=0.0, max=1.0), **fields)
    pictures = {**SEEDS, **turned(), **large(), "with EXIF": with_exif()}
    map_crops = contract.view == "crops"

    async def every(decoder: Decoder) -> list[Decoded | str]:
        results: list[Decoded | str] = []
        for data in pictures.values():
            try:
                decoded = await decoder.decode(data, "", contract, None, preview=True, map_crops=map_crops, look=True)
                results.append(decoded)
            except images.ImageError as error:
                results.append(f"{type(error).__name__}: {error}")
        return results

    answers = []
    for mode in ("threads", "processes"):
        metrics = Metrics()
        chosen = None
        if mode == "processes":
            chosen = Sandbox(workers=1, memory_bytes=GIGABYTE, seconds=60, replaced=metrics.decoders_replaced)
        decoder = Decoder(
            Limits(), threads=1, max_decodes=4, max_inflight_pixels=10**9, sandbox=chosen, metrics=metrics
        )
        answers.append(asyncio.run(every(decoder)))
        decoder.close()
        assert not replacements(metrics.render().text.decode())
    for name, here, there in zip(pictures, *answers, strict=True):
        if isinstance(here, str) or isinstance(there, str):
            assert here == there, name
            assert name in ("truncated", "text")
            continue
        assert here.facts == there.facts, name
        one, other = np.asarray(here.rounds.items), np.asarray(there.rounds.items)
        assert one.dtype == other.dtype, name
        assert np.array_equal(one, other), name
        for rounds in (here.rounds, there.rounds):
            rounds.add(np.zeros((rounds.count, 1), np.float32))
        assert here.rounds.scored()[1] == there.rounds.scored()[1], name
        assert here.rounds.warnings == there.rounds.warnings, name
        assert here.preview is not None
        assert there.preview is not None
        assert here.preview.size == there.preview.size, name
        assert here.preview.tobytes() == there.preview.tobytes(), name
        assert here.look is not None
        assert there.look is not None
        assert here.look.to_bytes() == there.look.to_bytes(), name
        assert here.look.capture == there.look.capture, name
        if map_crops:
            assert here.map_crops is not None
            assert there.map_crops is not None
            assert here.map_crops.layout == there.map_crops.layout, name
            assert np.array_equal(here.map_crops.items, there.map_crops.items), name


def with_exif() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "A Camera"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2026:11:30 10:20:30"
    return encode(photo(900, 700), exif=exif)


def test_the_service_answers_the_same(checkpoint_folder: Path, jpeg: bytes) -> None:
    answers: list[list[Any]] = []
    overlays = []
    for decoder in ("threads", "processes"):
        settings = Settings(checkpoints=(checkpoint_folder,), device="cpu", cache_crops=0, decoder=decoder)
        with TestClient(create_app(settings)) as client:
            wait_ready(client)
            bodies = []
            for data in (jpeg, turned()["orientation 6"]):
                for path in ("/score", "/attention?detail=crops"):
                    body = post(client, data, path).json()
                    assert body.pop("timing_ms")["decode"] > 0
                    bodies.append(body)
            answers.append(bodies)
            overlays.append(post(client, jpeg, "/attention", params={"overlay": "png"}).content)
            assert metric(client, "smartiqa_decode_pixels") == 0
    assert answers[0] == answers[1]
    assert overlays[0] == overlays[1]


def test_bad_pictures_get_the_same_problems(load: Any, jpeg: bytes) -> None:
    with TestClient(create_app(Settings(decoder="processes"), load=load)) as client:
        wait_ready(client)
        for data, status, code in BAD_PICTURES.values():
            problem(post(client, data), status, code)
        assert post(client, jpeg).status_code == 200
        assert not replacements(client.get("/metrics").text)


@pytest.mark.parametrize("signal_", ["SIGKILL", "SIGSEGV"])
def test_a_crash_costs_one_upload(load: Any, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, signal_: str) -> None:
    fake(monkeypatch, f"os.kill(os.getpid(), signal.{signal_})")
    with TestClient(create_app(Settings(decoder="processes", decode_threads=1), load=load)) as client:
        wait_ready(client)
        for count in (1, 2):
            problem(post(client, BAD), 422, "image_undecodable")
            assert metric(client, 'smartiqa_decoders_replaced_total{reason="died"}') == count
            assert post(client, jpeg).status_code == 200


def test_a_worker_that_dies_while_it_decodes(pools: Callable[..., Pool]) -> None:
    pool = pools()
    process = pool.process
    with pytest.raises(UndecodableImage):
        pool.decode(SEEDS["PNG-colour"], lambda _: os.kill(process.pid, signal.SIGKILL))
    assert pool.replaced("died") == 1
    pool.works()


def test_a_worker_that_dies_idle_costs_no_picture(pools: Callable[..., Pool]) -> None:
    pool = pools()
    pool.works()
    pool.process.kill()
    pool.process.wait()
    pool.works()
    assert pool.replaced("idle") == 1


def test_a_picture_that_needs_too_much_memory(pools: Callable[..., Pool]) -> None:
    refused(pools(memory_bytes=2**28), encode(Image.new("L", (7000, 7000)), "PNG"), "memory")


def test_an_upload_that_needs_too_much_memory(pools: Callable[..., Pool]) -> None:
    refused(pools(memory_bytes=2**28), bytes(2**28), "died")


def test_a_picture_that_takes_too_much_cpu_time(pools: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "WALL_FACTOR", 100)
    fake(monkeypatch, "while True: pass")
    pool = pools(seconds=1)
    process = pool.process
    refused(pool, BAD, "overran")
    assert process.returncode == -signal.SIGXCPU


def test_a_picture_that_takes_too_long(pools: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "time.sleep(1000)")
    pool = pools(seconds=1000)
    pool.works()
    pool.sandbox._idle.queue[0]._wall = 0.01
    refused(pool, BAD, "overran")


def test_a_worker_that_goes_on_reading_nothing(pools: Callable[..., Pool]) -> None:
    pool = pools(seconds=1000)
    pool.works()
    pool.process.send_signal(signal.SIGSTOP)
    pool.sandbox._idle.queue[0]._wall = 0.01
    refused(pool, bytes(2**24), "overran")


def frame(kind: bytes, told: Any, pixels: bytes = b"", *, pixel_bytes: int | None = None) -> bytes:
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    return kind + ANSWER.pack(len(text), len(pixels) if pixel_bytes is None else pixel_bytes) + text + pixels


FACTS_TOLD: dict[str, Any] = {
    "width": 512,
    "height": 512,
    "format": "PNG",
    "warnings": [],
    "preview": [8, 8],
    "boxes": [],
}
LET_IN = SIZE + PIXELS.pack(512 * 512)
PIXELS_TOLD = bytes(3 * (512 * 512 + 64))
SOUND = LET_IN + frame(FACTS, FACTS_TOLD, PIXELS_TOLD)
"""What a sound worker says of a picture of 512x512 pixels."""


def changed(**fields: Any) -> bytes:
    return LET_IN + frame(FACTS, {**FACTS_TOLD, **fields}, PIXELS_TOLD)


NONSENSE = {
    "unknown kind": frame(b"?", {}),
    "size twice": LET_IN + LET_IN + bytes(64),
    "size beyond the limits": SIZE + PIXELS.pack(2**63),
    "facts without a size": frame(FACTS, FACTS_TOLD, PIXELS_TOLD),
    "facts of another size": changed(width=511),
    "a size that is no number": changed(width="512"),
    "a size that is a truth": changed(height=True),
    "a size outside the limits": SIZE + PIXELS.pack(8) + frame(FACTS, {**FACTS_TOLD, "width": 8, "height": 1}),
    "a format that is none": changed(format="EXE"),
    "a format that is a list": changed(format=[]),
    "a warning that is none": changed(warnings=["<script>"]),
    "warnings that are none": changed(warnings=7),
    "a preview too large": changed(preview=[2000, 2000]),
    "a preview that is negative": changed(preview=[-8, -8]),
    "no preview": changed(preview=None),
    "fields missing": LET_IN + frame(FACTS, {}, PIXELS_TOLD),
    "too many pixels": LET_IN + frame(FACTS, FACTS_TOLD, PIXELS_TOLD + b"\0"),
    "too few pixels": LET_IN + frame(FACTS, FACTS_TOLD, PIXELS_TOLD[1:]),
    "endless pixels": LET_IN + frame(FACTS, FACTS_TOLD, pixel_bytes=2**63),
    "endless text": FACTS + ANSWER.pack(2**32 - 1, 0),
    "no json": frame(ERROR, b"\xff\xfe{"),
    "deep json": frame(ERROR, b"[" * 4096),
    "a list": frame(ERROR, []),
    "an unknown error": frame(ERROR, {"error": "SystemExit", "detail": ""}),
    "an error that is a list": frame(ERROR, {"error": [], "detail": ""}),
    "an error with pixels": frame(ERROR, {"error": "TooSmall", "detail": ""}, b"\0"),
    "a text too long": frame(ERROR, {"error": "TooSmall", "detail": "x" * 1000}),
    "a text that is not to be shown": frame(ERROR, {"error": "TooSmall", "detail": "line\r\nline"}),
    "a text that is a number": frame(ERROR, {"error": "TooSmall", "detail": 7}),
}
ECHO = """
from app.decode import sandbox_worker as worker

def answer(connection, shared, request, data):
    data = data[4:]
    if data.startswith(worker.SIZE):
        connection.sendall(data[:9])
        worker._receive(connection, 1)
        data = data[9:]
    if data.startswith(worker.FACTS):
        start = 1 + worker.ANSWER.size
        start += worker.ANSWER.unpack(data[1:start])[0]
        shared[: len(data) - start] = data[start:]
        data = data[:start]
    connection.sendall(data)

worker.answer = answer
worker.warm_up = lambda: None
worker.main()
"""
"""A worker that decodes nothing and says what it is told to."""


def test_what_a_sound_worker_says_is_taken(pools: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "PROGRAM", ("-c", ECHO))
    pool = pools()
    got = pool.decode(b"say " + SOUND, preview=True)
    assert (got.facts.width, got.facts.height, got.pixels_HWC.shape) == (512, 512, (512, 512, 3))
    with pytest.raises(images.TooSmall, match="that small"):
        pool.decode(b"say " + frame(ERROR, {"error": "TooSmall", "detail": "that small"}))
    assert pool.decode(b"say " + SOUND, preview=True).facts == got.facts
    assert pool.replaced("nonsense") == 0


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_costs_one_upload(pools: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(sandbox, "PROGRAM", ("-c", ECHO))
    pool = pools()
    process = pool.process
    with pytest.raises(UndecodableImage, match="time and memory"):
        pool.decode(b"say " + NONSENSE[kind], preview=True)
    assert process.poll() is not None
    assert pool.decode(b"say " + SOUND, preview=True).facts.width == 512
    assert pool.replaced("nonsense") == 1


CAPTURE: dict[str, Any] = {
    "taken": 1.5,
    "camera": "A Camera",
    "exposure": None,
    "bias": 0,
    "bracketed": False,
    "distance": 2.0,
}
LYING: dict[str, Any] = {
    "none": None,
    "a field more": {**CAPTURE, "place": 1},
    "a number that is text": {**CAPTURE, "taken": "1"},
    "a number that is a truth": {**CAPTURE, "bias": True},
    "a number without end": {**CAPTURE, "distance": float("inf")},
    "a number of many digits": {**CAPTURE, "distance": 10**400},
    "a truth that is a number": {**CAPTURE, "bracketed": 1},
    "a camera that is a list": {**CAPTURE, "camera": ["A"]},
    "a camera that is not to be shown": {**CAPTURE, "camera": "A\r\n"},
    "a camera too long": {**CAPTURE, "camera": "A" * 101},
}


def test_how_a_picture_was_taken_is_checked(pools: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "PROGRAM", ("-c", ECHO))
    pool = pools()

    def says(capture: Any, look: int = BYTES) -> bytes:
        pixels = bytes(3 * 512 * 512) + b"\7" * look
        return b"say " + LET_IN + frame(FACTS, {**FACTS_TOLD, "preview": None, "capture": capture}, pixels)

    got = pool.decode(says(CAPTURE), look=True).look
    assert got is not None
    assert got.capture == Capture(**CAPTURE)
    assert got.to_bytes() == b"\7" * BYTES
    refused = [says(capture) for capture in LYING.values()] + [says(CAPTURE, 0), says(CAPTURE, BYTES + 1)]
    for lying in refused:
        with pytest.raises(UndecodableImage, match="time and memory"):
            pool.decode(lying, look=True)
    assert pool.replaced("nonsense") == len(refused)


def test_the_copy_for_spots_is_as_large_as_it_must_be(
    pools: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "PROGRAM", ("-c", ECHO))
    pool = pools()
    size = 3 * 512 * 512
    whole = LET_IN + frame(FACTS, {**FACTS_TOLD, "preview": None}, bytes(size) + b"\1" * size)
    got = pool.decode(b"say " + whole, map_crops=True)
    assert got.preview is None
    assert got.copy_HWC is not None
    assert (got.copy_HWC.shape, got.copy_HWC.min(), got.pixels_HWC.max()) == ((512, 512, 3), 1, 0)
    for lying in (SOUND, LET_IN + frame(FACTS, FACTS_TOLD, bytes(2 * size + 3))):
        with pytest.raises(UndecodableImage, match="time and memory"):
            pool.decode(b"say " + lying, map_crops=True)
    assert pool.replaced("nonsense") == 2


TRIALS = """
found = []

def trial(name, call):
    try:
        call()
    except OSError:
        return
    found.append(name)

trial("read", lambda: open("/proc/self/status"))
trial("write", lambda: open("/tmp/smart-iqa-trial", "w"))
trial("internet", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
trial("unix", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
trial("pipe", os.pipe)
trial("copy", lambda: os.dup(0))
os.close(1)
os.close(2)
trial("in place of another", lambda: open("/proc/self/status"))
found += [name for name in ("torch", "fastapi", "app.settings", "app.scoring.service") if name in sys.modules]
found += [name for name in os.environ if "SMARTIQA" in name]
raise images.UndecodableImage("can do: " + ", ".join(found))
"""


def test_what_a_worker_may_do(pools: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTIQA_API_KEYS", "ann:secret")
    fake(monkeypatch, TRIALS)
    pool = pools()
    with pytest.raises(UndecodableImage) as caught:
        pool.decode(BAD)
    assert str(caught.value) == "can do: "
    pid = pool.process.pid
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert {variable.partition(b"=")[0] for variable in variables} <= {
        b"",
        b"PYTHONPATH",
        b"OPENBLAS_NUM_THREADS",
        b"MALLOC_ARENA_MAX",
    }
    status = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status


def test_a_worker_has_no_descriptor_of_the_service(pools: Callable[..., Pool]) -> None:
    with open("/proc/self/status") as file:
        os.set_inheritable(file.fileno(), True)
        pool = pools()
        pool.works()
        assert sorted(os.listdir(f"/proc/{pool.process.pid}/fd")) == ["0", "1", "2"]


def test_a_caller_that_leaves_costs_no_worker(pools: Callable[..., Pool]) -> None:
    def leave(pixels: int) -> None:
        assert pixels == 48 * 40
        raise CallerGone

    pool = pools()
    process = pool.process
    with pytest.raises(CallerGone):
        pool.decode(SEEDS["PNG-colour"], leave)
    pool.works()
    assert pool.process is process
    assert pool.replaced("died") == 0


def test_pixels_of_one_picture_never_reach_another(pools: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation that the service itself broke off is not gone on with."""
    pool = pools()
    pool.works()
    process = pool.process

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("app.decode.sandbox.Image.fromarray", fail)
        with pytest.raises(MemoryError):
            pool.decode(SEEDS["JPEG-baseline"], preview=True)
    assert process.poll() is not None
    pool.works()


def test_processes_are_the_default_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.model_fields["decoder"].default == "auto"
    made = pipeline.make_sandbox(Settings(decoder="auto", decode_threads=1), Metrics())
    assert made is not None
    made.close()
    assert pipeline.make_sandbox(Settings(decoder="threads"), Metrics()) is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert pipeline.make_sandbox(Settings(decoder="auto"), Metrics()) is None


def test_workers_end_with_the_service() -> None:
    source = """
import time
from app.observability.metrics import Metrics
from app.decode.sandbox import Sandbox

pool = Sandbox(workers=1, memory_bytes=2**30, seconds=60, replaced=Metrics().decoders_replaced)
worker = pool._idle.queue[0]
worker.wait_ready()
print(worker.process.pid, flush=True)
time.sleep(1000)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, env=environment) as service:
        assert service.stdout is not None
        pid = int(service.stdout.readline())
        assert running(pid)
        service.kill()
    for _ in range(1000):
        if not running(pid):
            return
        time.sleep(0.01)
    raise AssertionError("the worker goes on")


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_nothing_is_left_behind(load: Any, jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "os._exit(3)")
    started: list[Any] = []
    start = Sandbox._start

    def record(self: Sandbox) -> Any:
        started.append(start(self))
        return started[-1]

    monkeypatch.setattr(Sandbox, "_start", record)
    before = len(os.listdir("/proc/self/fd"))
    with TestClient(create_app(Settings(decoder="processes", decode_threads=3), load=load)) as client:
        wait_ready(client)
        for _ in range(2):
            assert post(client, jpeg).status_code == 200
            problem(post(client, BAD), 422, "image_undecodable")
    assert len(started) == 5
    assert all(worker.process.returncode is not None for worker in started)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_hanging_decoder_does_not_hold_up_the_end(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "time.sleep(1000)")
    settings = Settings(decoder="processes", decode_threads=1, decode_seconds=1000)
    with TestClient(create_app(settings, load=load)) as client:
        wait_ready(client)
        problem(post(client, BAD, headers={"X-Deadline-Ms": "1"}), 504, "deadline_exceeded")
        while not (busy := client.app.state.service.pipeline._decoder._sandbox._busy):  # type: ignore[attr-defined]
            client.get("/health/live")
        (worker,) = busy
    assert worker.process.returncode == -signal.SIGKILL


def test_a_worker_that_cannot_be_started(load: Any, jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "PROGRAM", ("-c", "raise SystemExit(1)"))
    with TestClient(
        create_app(Settings(decoder="processes", decode_threads=1), load=load), raise_server_exceptions=False
    ) as client:
        wait_ready(client)
        problem(post(client, jpeg), 500, "internal_error")
        monkeypatch.undo()
        assert post(client, jpeg).status_code == 200


def test_logs_tell_the_reason_and_nothing_of_the_picture(
    pools: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake(monkeypatch, "print('secret', file=sys.stderr); os._exit(1)")
    token = current_id.set("5f0c")
    with caplog.at_level("INFO", "smart_iqa"):
        refused(pools(), BAD, "died")
    current_id.reset(token)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage().startswith("a decoder process is replaced: died id=5f0c sha256=")
    assert record.__dict__["request_id"] == "5f0c"
    assert record.__dict__["sha256"] == record.getMessage().rpartition("=")[2]
    assert "secret" not in caplog.text
    assert any("decoder processes run" in record.getMessage() for record in caplog.records)


def test_pillow_logs_nothing_of_a_picture(caplog: pytest.LogCaptureFixture) -> None:
    data = bytearray(SEEDS["TIFF-plain"])
    directory = int.from_bytes(data[4:8], "little")
    for at in range(directory + 2, directory + 2 + 12 * 24, 12):
        if data[at : at + 2] == b"\x15\x01":
            data[at + 8 : at + 10] = (4242).to_bytes(2, "little")
    with pytest.raises(images.ImageError):
        images.decode(bytes(data))
    assert caplog.records == []
