"""Pictures and a checkpoint that the tests make for themselves.

torch is imported only by what needs it: a process that hands tests to others reads this file too.
"""

import dataclasses
import gc
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.contract import Contract
from model.options import DEFAULT_CHECKPOINT
from model.scale import Scale

if TYPE_CHECKING:
    from model.scorer import Scorer

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.jpg"))
PICTURES = Path(__file__).parent / "pictures"
WHOLE: dict[str, Any] = {
    "view": "whole",
    "shapes": ((256, 256), (320, 192), (192, 320)),
    "crop_size": 128,
    "crops": 3,
    "decoding": "scaled",
}
"""Fields of a contract of small whole views."""
FINDINGS: dict[str, Any] = {"defects": True, "kinds": 2, "description": 6}
"""Options of a network that finds defects and gives intervals."""


def pytest_configure() -> None:
    # What imports and collection make stays to the end; looking through it for garbage again and again takes a fifth
    # of their time.
    gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()


def photo(width: int = 320, height: int = 240, seed: int = 0) -> Image.Image:
    """Smooth colours with some texture; another seed is another picture."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noisy = np.asarray(coarse).astype(np.int16) + rng.integers(-12, 13, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, format_: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def sample(format_: str) -> bytes:
    """A small sound picture of a format, 96x64."""
    if format_ == "HEIC":
        return (PICTURES / "plain.heic").read_bytes()
    if format_ == "JXL":
        return encode_jxl(np.asarray(photo(96, 64)))
    return encode(photo(96, 64), format_)


def encode_jxl(pixels: NDArray[Any], **options: Any) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels, **options))


@pytest.fixture(scope="session")
def contract() -> Contract:
    return Contract(crops=4, scale=Scale(dataset="made-up", min=1.0, max=5.0))


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is measured and remembered stays out of the user's folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        # Most tests start a service for something else than its decoders, and processes take seconds to start.
        patch.setenv("SMARTIQA_DECODER", "threads")
        yield


@pytest.fixture(scope="session", autouse=True)
def _two_batch_shapes() -> Iterator[tuple[int, ...]]:
    """Of five batch shapes that every start tries out two are enough for most tests: a score is the same at all."""
    from model.inference import engine

    usual = engine.CANDIDATE_SHAPES["crops", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(engine.CANDIDATE_SHAPES, ("crops", "cpu"), (4, 8))
        yield usual


@pytest.fixture(scope="module")
def all_batch_shapes(_two_batch_shapes: tuple[int, ...]) -> Iterator[None]:
    """For tests of the shapes themselves."""
    from model.inference import engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(engine.CANDIDATE_SHAPES, ("crops", "cpu"), _two_batch_shapes)
        yield


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> Path:
    """A checkpoint of the smallest network, with random weights and golden scores. Not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoints") / "random"
    save_random(folder, contract)
    return folder


@pytest.fixture(scope="session")
def whole_folder(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> Path:
    """A checkpoint of whole views and close looks, which finds defects and gives intervals, with random weights."""
    from model.networks import registry

    folder = tmp_path_factory.mktemp("whole") / "whole"
    own = dataclasses.replace(contract, **WHOLE, **registry.findings("smart-mobile", **FINDINGS))
    save_random(folder, own, name="whole", **FINDINGS)
    return folder


@pytest.fixture(scope="session")
def sixteen_crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained checkpoint whose score is made of so many crops that ``auto`` can do with fewer. Not to be changed."""
    from model import checkpoint, golden
    from model.scorer import Scorer

    folder = tmp_path_factory.mktemp("sixteen") / "sixteen"
    loaded = checkpoint.load(DEFAULT_CHECKPOINT)
    contract = dataclasses.replace(
        loaded.contract, view="crops", shapes=(), zooms=(1.0,), width=512, height=512, crop_size=224, crops=16
    )
    checkpoint.save(folder, loaded.network, name="sixteen", contract=contract, card="# Sixteen crops\n")
    golden.write(Scorer.load(folder, device="cpu", precision="fp32"))
    return folder


@pytest.fixture(scope="session")
def scorer(checkpoint_folder: Path) -> "Scorer":
    from model.scorer import Scorer

    return Scorer.load(checkpoint_folder, device="cpu", precision="fp32")


def save_random(
    folder: Path, contract: Contract, *, network: str = "smart-mobile", seed: int = 0, name: str = "", **options: Any
) -> None:
    import torch

    from model import checkpoint, golden
    from model.networks import registry
    from model.networks.smart import SmartIQA
    from model.scorer import Scorer

    torch.manual_seed(seed)
    made = registry.build(network, **options)
    # Random heads answer far outside any scale; this one answers inside it.
    if isinstance(made, SmartIQA):
        torch.nn.init.constant_(made.hyper.biases[-1].get_parameter("bias"), 3.0)
    checkpoint.save(folder, made, name=name or f"{network}-{seed}", contract=contract, card="# Random weights\n")
    golden.write(Scorer.load(folder, device="cpu", precision="fp32"))
