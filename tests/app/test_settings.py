import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import ABOUT_KEYS, Settings, read, table
from model.options import DEFAULT_CHECKPOINT
from tests.conftest import ROOT

SUFFIX = " or scheme://host:port, or * for all"


def test_defaults_serve_the_default_checkpoint() -> None:
    assert Settings().checkpoints == (DEFAULT_CHECKPOINT,)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTIQA_CHECKPOINTS", "a, b/c")
    monkeypatch.setenv("SMARTIQA_PORT", "9000")
    assert Settings().checkpoints == (Path("a"), Path("b/c"))
    assert Settings().port == 9000
    assert Settings(port=1).port == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("DEVICE", "tpu"),
        ("MAX_QUEUE_CROPS", "63"),
        ("DEADLINE_SECONDS", "0"),
        ("DEADLINE_SECONDS", "60"),
    ],
)
def test_values_out_of_bounds(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SMARTIQA_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SMARTIQA_API_KEY_FILE", "; did you mean SMARTIQA_API_KEYS_FILE?"),
        ("smartiqa_api_keyfile", "; did you mean SMARTIQA_API_KEYS_FILE?"),
        ("SMARTIQA_DECODER_SECONDS", "; did you mean SMARTIQA_DECODE_SECONDS?"),
        ("SMART_IQA_API_KEYS", "; did you mean SMARTIQA_API_KEYS?"),
        ("SMARTIQA_XYZZY", ""),
    ],
)
def test_a_variable_that_is_no_setting_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    """A misspelt name of the file of keys would start a service that is open to everybody."""
    monkeypatch.setenv(name, "keys")
    with pytest.raises(ValueError, match=f"^there is no setting {name}{meant}".replace("?", r"\?") + "$"):
        read()


def test_variables_of_others_are_none_of_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes tells containers of a Service called smart-iqa by such variables."""
    for name in ("SMART_IQA_PORT", "SMART_IQA_SERVICE_HOST", "SMARTIQAX", "XSMARTIQA_KEY"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:80")
    assert read().port == 8000


def test_an_option_that_is_no_setting_is_refused() -> None:
    """As in the ``args`` of a config of Ray Serve."""
    with pytest.raises(ValueError, match=r"^there is no setting 'log_fromat'; did you mean log_format\?$"):
        read(log_fromat="json")


@pytest.mark.parametrize("value", ["", " ", ",", " , "])
def test_an_empty_value_is_the_default(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """An empty host would be every address."""
    names = Settings.model_fields.keys() - {*ABOUT_KEYS}
    for name in names:
        monkeypatch.setenv(f"SMARTIQA_{name.upper()}", value)
    assert read() == Settings.model_construct()
    assert read(host=value).host == "127.0.0.1"


@pytest.mark.parametrize("name", [f"SMARTIQA_{name.upper()}" for name in ABOUT_KEYS])
@pytest.mark.parametrize("value", ["", " ", ","])
def test_an_empty_value_is_refused_where_keys_are_meant(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^{name} is empty"):
        read()


@pytest.mark.parametrize(
    ("origin", "advice"),
    [
        ("https://a.example/", "browsers send https://a.example"),
        ("https://a.example/app", "browsers send https://a.example"),
        ("https://A.example", "browsers send https://a.example"),
        ("https://a.example:443", "browsers send https://a.example"),
        ("http://[::1]:80", "browsers send http://[::1]"),
        ("https://münchen.example", "browsers send https://xn--mnchen-3ya.example"),
        ("a.example", "write scheme://host"),
        ("localhost:3000", "write scheme://host"),
        ("https://*.example", "write scheme://host"),
        ("https://a.example https://b.example", "write scheme://host"),
        ("https://a.example:x", "write scheme://host"),
    ],
)
def test_origins_that_never_match_are_refused(monkeypatch: pytest.MonkeyPatch, origin: str, advice: str) -> None:
    monkeypatch.setenv("SMARTIQA_CORS_ORIGINS", f"https://good.example, {origin}")
    with pytest.raises(ValueError, match=r"^SMARTIQA_CORS_ORIGINS: ") as caught:
        read()
    assert str(caught.value).partition("origin: ")[2].removesuffix(SUFFIX) == advice
    assert repr(origin) in str(caught.value)


def test_origins_as_browsers_send_them() -> None:
    origins = ("https://a.example", "http://localhost:3000", "http://[::1]:8080", "chrome-extension://abc", "null", "*")
    assert read(cors_origins=",".join(origins)).cors_origins == origins


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "http", "SMARTIQA_PORT=http: "),
        ("DEADLINE_SECONDS", "60", "SMARTIQA_SHUTDOWN_SECONDS must be above twice SMARTIQA_DEADLINE_SECONDS"),
        ("METRICS_KEY", "true", "SMARTIQA_METRICS_KEY asks for a key"),
        ("PROBES_KEY", "true", "SMARTIQA_PROBES_KEY asks for a key"),
        ("PROBES_KEY", "s3cret", "SMARTIQA_PROBES_KEY: "),
    ],
)
def test_errors_name_the_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(f"SMARTIQA_{name}", value)
    with pytest.raises(ValueError, match=f"^{words}") as caught:
        read()
    assert "s3cret" not in str(caught.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_every_setting_is_described_and_their_page_shows_them() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert table() in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_devices_that_can_be_named(device: str) -> None:
    assert Settings(device=device).device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "cuda:0,cuda:1", "cuda:0\n"])
def test_devices_that_cannot(device: str) -> None:
    with pytest.raises(ValidationError):
        Settings(device=device)


def test_every_variable_of_documents_and_deployments_is_a_setting() -> None:
    """A misspelt one would end the start of whoever copies it."""
    pages = (ROOT / "docs").glob("*.md")
    deployments = [file for file in (ROOT / "deploy").rglob("*") if file.suffix in (".yaml", ".yml", ".md")]
    text = "".join(
        file.read_text("utf-8") for file in (*pages, *deployments, ROOT / "Dockerfile", ROOT / "docker-compose.yml")
    )
    named = {name.lower() for name in re.findall(r"\bSMARTIQA_([A-Z][A-Z_]*[A-Z])\b", text)}
    assert len(named) > 30
    assert named <= Settings.model_fields.keys()
