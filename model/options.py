"""What a caller may choose: device, precision, and the checkpoint that is the default. Imports no torch."""

from pathlib import Path
from typing import Literal

DEFAULT_CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "default"
"""The checkpoint that comes with the project."""

DeviceName = Literal["auto", "cpu", "cuda"]
"""``auto`` takes CUDA where there is some, else the CPU."""
Precision = Literal["auto", "fp32", "bf16", "int8"]
"""``auto`` takes bf16 where the hardware has it and the network gains from it, else fp32."""
