"""Each side of a comparison is a service of its own."""

from pathlib import Path

import httpx
import pytest

from loadtests.tune.versus import Side, served
from tests.integration.conftest import put


def test_each_side_is_served_with_its_own_variables_until_the_end(tmp_path: Path) -> None:
    store = put(tmp_path / "store", "linear")
    with served(Side(store, environment={"MARLOOP_TELEMETRY": "off"})) as url:
        assert httpx.post(f"{url}/predictions/linear", json={"x": 6}).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/ping")
