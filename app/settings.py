"""Settings of the service, read from environment variables that begin with ``SMARTIQA_``."""

import difflib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model.contract import MAX_CROPS
from model.options import DEFAULT_CHECKPOINT, Precision

PREFIX = "SMARTIQA_"
LOOKALIKE = "SMART_IQA_"
"""A prefix that is easily taken for ``PREFIX``. Kubernetes sets such variables too, for a Service called smart-iqa."""
ABOUT_KEYS = ("api_keys", "api_keys_file", "admin_keys", "admin_keys_file", "metrics_key", "probes_key")
"""Settings that close the service: an empty value is an error, since nobody sets them to leave it open."""
DEFAULT_PORTS = {"http": 80, "https": 443}


class Settings(BaseSettings):
    """How the service runs. How pictures are scored is defined by the checkpoint instead."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path that a proxy in front strips, such as `/iqa`; the OpenAPI document names it as the server.",
    )
    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Keys that may ask for scores, `name:sha256`, separated by commas; without any, all may.",
    )
    api_keys_file: Path | None = Field(
        None, description="File of such keys, one `name sha256` per line; read again when it changes."
    )
    admin_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Keys that may use `/admin/*` too, in the same form; without any there is no `/admin/*`."
    )
    admin_keys_file: Path | None = Field(None, description="File of such keys.")
    metrics_key: bool = Field(False, description="Whether `/metrics` asks for a key too.")
    probes_key: bool = Field(False, description="Whether `/health/*` asks for a key too.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the service, separated by commas; `*` for all."
    )
    checkpoints: Annotated[tuple[Path, ...], NoDecode] = Field(
        (DEFAULT_CHECKPOINT,),
        min_length=1,
        description="Checkpoint folders to serve, separated by commas; the first is the default model.",
    )
    policies: Path | None = Field(
        None,
        description="File of [policies](policies.md), which decide about pictures; the shipped ones if none is named.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$",
        description="`auto` takes CUDA where there is some, else the CPU; `cpu`; `cuda` for all visible GPUs, `cuda:1` "
        "for one of them.",
    )
    precision: Precision = Field(
        "auto",
        description="`auto` takes bf16 where the hardware has it and the network gains from it; `fp32`, "
        "`bf16`, `int8` (CPU, for checkpoints that were prepared for it).",
    )
    threads: int = Field(
        0,
        ge=0,
        le=512,
        description="CPU threads of the engine; 0 takes what a measurement at the first start found fastest.",
    )
    decode_threads: int = Field(2, ge=1, le=256, description="Threads, or processes, that decode pictures.")
    decoder: Literal["auto", "threads", "processes"] = Field(
        "auto",
        description="Where pictures are decoded: in `processes` of few rights, which may crash or hang, or in "
        "`threads` of the service; `auto` takes processes on Linux.",
    )
    decoder_memory_bytes: int = Field(
        3 * 2**30,
        ge=2**28,
        le=2**40,
        description="Address space of one decoder process; pictures that need more are answered with 422. "
        "Some need 40 bytes a pixel.",
    )
    decode_seconds: int = Field(
        10,
        ge=1,
        le=3600,
        description="Longest that decoding a picture may take one core, in seconds, as estimated from its structure; "
        "422 `image_too_costly` beyond. A decoder process is ended after as many, three times as many by the clock.",
    )
    max_decodes: int = Field(
        32,
        ge=1,
        le=4096,
        description="Pictures being decoded or waiting for it; beyond, the key that has most gets 429 for its newest.",
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
        64_000_000,
        ge=1024,
        le=2**31,
        description="Largest number of pixels that decoding a picture may hold, checked before; 422 beyond. A JPEG "
        "counts at the scale that it is decoded at, a pixel of a HEIC 5/16.",
    )
    max_inflight_pixels: int = Field(
        128_000_000,
        ge=1024,
        le=2**40,
        description="Pixels of all pictures together that are decoded at a time; more wait. "
        "Photos take 9 to 18 bytes a pixel, transparent ones up to 34.",
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
    max_batch_files: int = Field(
        16, ge=1, le=1024, description="Pictures in one `/score/batch`; more are answered with 413."
    )
    max_batch_bytes: int = Field(
        128 * 2**20,
        ge=1024,
        le=2**33,
        description="Largest body of `/score/batch` in bytes, within `MAX_UPLOAD_BYTES`; 413 beyond.",
    )
    cache_crops: int = Field(
        65536,
        ge=0,
        le=2**24,
        description="Crops whose scores are kept in memory for pictures that come again; 0 keeps none.",
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
    header_seconds: float = Field(
        10.0, gt=0, le=3600, description="Longest time for the head of a request, from its first byte or the accept."
    )
    idle_body_seconds: float = Field(
        10.0, gt=0, le=3600, description="Longest pause within an upload; then it is answered with 408."
    )
    keep_alive_seconds: int = Field(
        75,
        ge=1,
        le=3600,
        description="Time for which an idle connection stays open after an answer; longer than the load balancer's.",
    )
    max_connections: int = Field(
        2048, ge=1, le=2**20, description="Open connections; more are answered with 503 and closed."
    )
    shutdown_seconds: int = Field(
        75, ge=1, le=7300, description="Time for accepted requests to finish after SIGTERM; above twice the deadline."
    )
    drain_seconds: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="Time after SIGTERM in which the service still listens, is not ready and takes no new work.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log line shown.")
    slow_seconds: float = Field(
        10.0,
        ge=0,
        le=3600,
        description="Time from which on a request is slow: its line in the log is a warning; 0 for never.",
    )
    key_metrics: int = Field(
        20,
        ge=0,
        le=1000,
        description="Keys whose requests `/metrics` counts by name, the first by name; further ones are `other`. "
        "0 counts none.",
    )
    log_format: Literal["text", "json"] = Field("text", description="`json` writes one object per line.")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses or networks of proxies whose `X-Forwarded-For` names the client, separated by commas.",
    )
    lost_seconds: float = Field(
        45.0,
        ge=0,
        le=3600,
        description="Time for which the process stays, not ready, after it has lost its device, so that it is scraped "
        "before it ends.",
    )
    otel: bool = Field(
        False,
        description="Whether to send traces to where OpenTelemetry's own variables say; needs the extra `otel`.",
    )

    @property
    def decoder_kind(self) -> Literal["threads", "processes"]:
        """Where pictures are decoded on this system."""
        if self.decoder == "auto":
            return "processes" if sys.platform == "linux" else "threads"
        return self.decoder

    @model_validator(mode="before")
    @classmethod
    def _closed(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Refuse names that nobody knows; leave out what is empty, so that it is the default."""
        refuse_unknown(os.environ, cls.model_fields)
        for name in values:
            if name not in cls.model_fields:
                raise ValueError(f"there is no setting {name!r}{did_you_mean(name, cls.model_fields)}")
        empty = {name for name, value in values.items() if isinstance(value, str) and not value.strip(", \t\n")}
        for name in ABOUT_KEYS:
            if name in empty:
                raise ValueError(
                    f"{variable(name)} is empty, and would leave open what keys should close: unset it, or name keys"
                )
        return {name: value for name, value in values.items() if name not in empty}

    @field_validator("checkpoints", "api_keys", "admin_keys", "cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in value:
            try:
                ip_network(proxy)
            except ValueError:
                raise ValueError(f"{proxy} is neither an address nor a network such as 10.0.0.0/8") from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _as_browsers_send(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin not in ("*", "null") and (sent := _sent_origin(origin)) != origin:
                advice = f"browsers send {sent}" if sent else "write scheme://host or scheme://host:port, or * for all"
                raise ValueError(f"{origin!r} would never match an origin: {advice}")
        return origins

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.shutdown_seconds <= 2 * self.deadline_seconds:
            raise ValueError(
                f"{variable('shutdown_seconds')} must be above twice {variable('deadline_seconds')}: one for the "
                "upload, one after it"
            )
        if self.max_upload_bytes < self.max_body_bytes:
            raise ValueError(f"{variable('max_upload_bytes')} must be at least {variable('max_body_bytes')}")
        if self.max_inflight_pixels < self.max_pixels:
            raise ValueError(
                f"{variable('max_inflight_pixels')} must be at least {variable('max_pixels')}, or the largest picture "
                "would never fit"
            )
        keys = self.api_keys or self.api_keys_file or self.admin_keys or self.admin_keys_file
        for name in ("metrics_key", "probes_key"):
            if getattr(self, name) and not keys:
                raise ValueError(f"{variable(name)} asks for a key, but no keys are configured")
        return self


def read(**options: Any) -> Settings:
    """Read the settings from the environment.

    Args:
        options: Settings that beat it, by name.

    Raises:
        ValueError: A setting is unknown or wrong; the text is one sentence that names its variable.
    """
    try:
        return Settings(**options)
    except ValidationError as error:
        first = error.errors()[0]
        own = first.get("ctx", {}).get("error")
        if not first["loc"]:
            raise ValueError(str(own)) from error
        name = str(first["loc"][0])
        # The value of a setting about keys may be a key; our own errors quote what matters.
        given = "" if own or name in ABOUT_KEYS else f"={first['input']}"
        raise ValueError(f"{variable(name)}{given}: {own or first['msg']}") from error


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def refuse_unknown(variables: Iterable[str], known: Iterable[str]) -> None:
    """Refuse environment variables that look like settings and are none: ignored, they may leave the service open.

    Args:
        variables: Names of environment variables.
        known: Names of all settings.

    Raises:
        ValueError: One of them is no setting.
    """
    known = {*known}
    for given in sorted(variables):
        upper = given.upper()
        name = upper.removeprefix(PREFIX).removeprefix(LOOKALIKE).lower()
        if upper.startswith(PREFIX) and name not in known:
            raise ValueError(f"there is no setting {given}{did_you_mean(name, known, variable)}")
        if upper.startswith(LOOKALIKE) and name in known - {"port"}:
            raise ValueError(f"there is no setting {given}; did you mean {variable(name)}?")


def did_you_mean(name: str, known: Iterable[str], spelt: Callable[[str], str] = str) -> str:
    """What may have been meant by an unknown name, as the end of a sentence; "" if nothing is like it.

    Args:
        name: The unknown name.
        known: Names that would have been right.
        spelt: How one of them is written.
    """
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {spelt(close[0])}?" if close else ""


@contextmanager
def blaming(variable: str) -> Iterator[None]:
    """Have errors of the file that a setting names say which setting that is.

    Args:
        variable: The environment variable.

    Raises:
        OSError: Raised again, of the same kind, with a sentence as its text.
    """
    try:
        yield
    except OSError as error:
        raise type(error)(f"{variable}: {error.filename}: {error.strerror}") from error


def _sent_origin(text: str) -> str:
    """The form in which browsers send an origin; "" if it is none."""
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        return ""
    if not parts.scheme or not host or any(char in text for char in " *@\\"):
        return ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + ("" if port in (None, DEFAULT_PORTS.get(parts.scheme)) else f":{port}")


def table() -> str:
    """Draw the settings as the table of docs/settings.md."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "checkpoints/default" if name == "checkpoints" else field.default
        shown = "none" if default in ((), None) else f"`{default}`"
        rows.append(f"| `{variable(name)}` | {shown} | {field.description} |")
    return "\n".join(rows)
