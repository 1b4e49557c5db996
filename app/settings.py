"""Settings of the service, read from environment variables that begin with ``SMARTIQA_``."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model.checkpoint import DEFAULT
from model.contract import MAX_CROPS
from model.engine import DeviceName, Precision


class Settings(BaseSettings):
    """How the service runs; how pictures are scored is the checkpoint's affair."""

    model_config = SettingsConfigDict(env_prefix="SMARTIQA_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    checkpoints: Annotated[tuple[Path, ...], NoDecode] = Field(
        (DEFAULT,),
        min_length=1,
        description="Checkpoint folders to serve, separated by commas; the first is the default model.",
    )
    device: DeviceName = Field(
        "auto", description="`auto` takes CUDA where there is some, else the CPU; `cpu`, `cuda`."
    )
    precision: Precision = Field(
        "auto", description="`auto` takes bf16 where the hardware has it and the network gains from it; `fp32`, `bf16`."
    )
    threads: int = Field(0, ge=0, le=512, description="CPU threads of the engine; 0 leaves the choice to torch.")
    decode_threads: int = Field(2, ge=1, le=256, description="Threads that decode pictures.")
    max_decodes: int = Field(
        32, ge=1, le=4096, description="Pictures being decoded or waiting for it; more are answered with 429."
    )
    max_body_bytes: int = Field(
        32 * 2**20, ge=1024, le=2**31, description="Largest request body in bytes; larger ones are answered with 413."
    )
    max_upload_bytes: int = Field(
        256 * 2**20,
        ge=1024,
        le=2**36,
        description="Bytes of all uploads together that are read or wait to be decoded; more are answered with 429.",
    )
    max_pixels: int = Field(
        64_000_000, ge=1024, le=178_000_000, description="Largest picture in pixels, checked before decoding."
    )
    max_queue_crops: int = Field(
        1024, ge=MAX_CROPS, le=2**20, description="Crops waiting for the device; more are answered with 429."
    )
    max_queue_bytes: int = Field(
        512 * 2**20,
        ge=2**26,
        le=2**38,
        description="Bytes of the crops or tokens waiting for the device; more are answered with 429.",
    )
    key_crops_per_second: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="Crops that each API key may ask for in a second, over ten seconds; 0 for no limit. 429 beyond.",
    )
    hang_seconds: float = Field(
        120.0, ge=1, le=3600, description="A batch that is on the device for this long will not come back: the end."
    )
    deadline_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Longest time for an upload (then 408), and from it to the answer (then 504).",
    )
    shutdown_seconds: int = Field(
        75, ge=1, le=7300, description="Time for accepted requests to finish after SIGTERM; above twice the deadline."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log line shown.")

    @field_validator("checkpoints", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.shutdown_seconds <= 2 * self.deadline_seconds:
            raise ValueError("shutdown_seconds must be above twice deadline_seconds: one for the upload, one after it")
        if self.max_upload_bytes < self.max_body_bytes:
            raise ValueError("max_upload_bytes must be at least max_body_bytes")
        return self


def table() -> str:
    """Draw the settings as the README's table."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "`checkpoints/default`" if name == "checkpoints" else f"`{field.default}`"
        rows.append(f"| `SMARTIQA_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)
