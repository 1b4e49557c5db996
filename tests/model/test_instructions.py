"""What a CPU's instructions change and what they do not. Weaker CPUs than this one are had by limits, in processes of
their own: oneDNN and PyTorch read them once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from model.inference.convolution import FusedConv
from model.inference.linear import FusedLinear
from tests.model import int8_layers
from tests.model.int8_layers import KINDS, Kind

pytestmark = pytest.mark.usefixtures("all_batch_shapes")

ROOT = Path(__file__).parents[2]
# Neither has VNNI, and AVX2 has no bf16 either; oneDNN's kernels for the two differ.
LIMITS = {
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "AVX512_CORE": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
}
TOLD = """
from model import checkpoint, golden
from model.inference.engine import Engine
from model.options import DEFAULT_CHECKPOINT
from model.scorer import Scorer
from tests.model import int8_layers

print(int8_layers.digest())
loaded = checkpoint.load(DEFAULT_CHECKPOINT)
for precision in ("bf16", "int8"):
    ranges = loaded.ranges if precision == "int8" else None
    engine = Engine(
        loaded.network, loaded.contract, device="cpu", precision=precision, shapes=(1, 4), ranges=ranges
    )
    engine.warm()
    golden.verify(Scorer(loaded, engine))
    print(precision, engine.reproducible, *engine.shapes)
"""


@pytest.fixture(scope="module", params=LIMITS)
def told(request: pytest.FixtureRequest) -> list[str]:
    """What a process under a limit tells of its 8-bit layers, and of the golden pictures in bf16 and int8."""
    done = subprocess.run(
        [sys.executable, "-c", TOLD],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **LIMITS[request.param]},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("worst", [False, True], ids=["drawn", "largest"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@torch.inference_mode()
def test_int8_convolutions_are_their_formula(kind: Kind, worst: bool) -> None:
    for fused in (None, False):
        answer, exact = int8_layers.answer_of(kind, worst=worst, fused=fused)
        assert (answer.double() - exact).abs().max() <= 1


@torch.inference_mode()
def test_int8_linear_layers_are_their_formula() -> None:
    for fused in (None, False):
        for answer, exact in int8_layers.linear_answers(fused=fused):
            if answer.dtype == torch.uint8:
                assert (answer.double() - exact).abs().max() <= 1
            else:
                torch.testing.assert_close(answer.double(), exact, atol=1e-5, rtol=1e-5)


def test_int8_layers_answer_the_same_however_they_are_computed() -> None:
    assert int8_layers.digest(fused=False) == int8_layers.digest()


def test_int8_layers_answer_the_same_with_fewer_instructions(told: list[str]) -> None:
    assert told[0] == int8_layers.digest()


def test_golden_pictures_pass_with_fewer_instructions(told: list[str]) -> None:
    assert told[1:] == ["bf16 True 1 4", "int8 True 1 4"]


@pytest.mark.parametrize("has_bf16", [None, False], ids=["as here", "without"])
@torch.inference_mode()
def test_bf16_layers_round_inputs_weights_and_outputs(has_bf16: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the CPU has no bf16 as where it has it."""
    if has_bf16 is not None:
        monkeypatch.setattr("model.inference.linear.has_bf16", lambda: has_bf16)
    torch.manual_seed(2)
    inputs, addend = torch.randn(2, 16, 9, 9), torch.randn(2, 24, 9, 9)
    conv, linear = nn.Conv2d(16, 24, 3, padding=1), nn.Linear(16, 8)
    rounded = [value.bfloat16().double() for value in (inputs, addend, conv.weight, conv.bias)]  # type: ignore[union-attr]
    summed = nn.functional.conv2d(rounded[0], rounded[2], rounded[3], padding=1) + rounded[1]
    fused = FusedConv(conv, activation=nn.ReLU(), dtype=torch.bfloat16)
    fused.pack()
    answer = fused(inputs.contiguous(memory_format=torch.channels_last), addend)
    assert answer.dtype == torch.bfloat16
    # One rounding to 8 bits, and sums of fp32 before it.
    torch.testing.assert_close(answer.double(), summed.relu(), rtol=2**-8, atol=1e-5)
    tokens, weight, bias = (value.bfloat16().double() for value in (inputs[0, :, 0].T, linear.weight, linear.bias))
    layer = FusedLinear(linear, "gelu", torch.bfloat16)
    layer.pack()
    product = layer(inputs[0, :, 0].T)
    assert product.dtype == torch.bfloat16
    exact = nn.functional.gelu(nn.functional.linear(tokens, weight, bias))
    torch.testing.assert_close(product.double(), exact, rtol=2**-8, atol=1e-5)
