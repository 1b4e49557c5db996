"""docker-compose.yml: of the Compose specification, pinned, locked down, and in step with the settings."""

import re
from typing import Any

import pytest
from compose_spec import PyCompose, parse_duration

from app.settings import Settings
from tests.conftest import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")
SERVICES: dict[str, dict[str, Any]] = PyCompose.from_yaml(TEXT).to_dict()["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def test_it_is_of_the_compose_specification() -> None:
    compose = PyCompose.from_yaml(TEXT)
    compose.validate()
    assert compose.service_names() == ["smart-iqa", "prometheus", "grafana"]


def test_the_specification_notices_misspelled_keys() -> None:
    with pytest.raises(ValueError, match="reed_only"):
        PyCompose.from_yaml(TEXT.replace("read_only", "reed_only"))


@pytest.mark.parametrize("name", SERVICES)
def test_service(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), "a tag that stays what it is"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    # The service's own check is in its image.
    assert "healthcheck" in service or name == "smart-iqa"
    # What asks for no password listens on this machine alone.
    (port,) = service["ports"]
    assert name == "smart-iqa" or str(port).startswith("127.0.0.1:")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert source.isidentifier() or (ROOT / source).exists()
        assert source.isidentifier() or volume.endswith(":ro")


def test_the_service_has_time_to_end() -> None:
    grace = parse_duration(SERVICES["smart-iqa"]["stop_grace_period"])
    assert grace > Settings.model_fields["shutdown_seconds"].default + Settings.model_fields["drain_seconds"].default
    assert "HEALTHCHECK" in DOCKERFILE
    # Of liveness, and by the settings: a drain or another port must not have it taken for ill.
    assert 'CMD ["smart-iqa", "health"]' in DOCKERFILE


def test_nobody_may_change_grafana() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_ports_agree() -> None:
    port = Settings.model_fields["port"].default
    assert SERVICES["smart-iqa"]["ports"] == [f"{port}:{port}"]
    assert f"EXPOSE {port}" in DOCKERFILE
    assert f'targets: ["smart-iqa:{port}"]' in (ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8")
