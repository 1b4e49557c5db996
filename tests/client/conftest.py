"""A client of each kind before written answers."""

import pytest

from tests.client.fakes import Scene


@pytest.fixture(params=["Client", "AsyncClient"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)
