"""Each host with the models of a module's own fixture ``store``."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import RAY, Server, monitored


@pytest.fixture(scope="module", params=["torchserve", "direct", RAY])
def own(request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each host, which captures, and its monitor, which probes five times a second."""
    runs = tmp_path_factory.mktemp("hosts") / "runs"
    with monitored(store, runs, {"MARLOOP_PROBE_INTERVAL": "0.2"}, request.param) as server:
        yield server
