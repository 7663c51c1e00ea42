"""Each side of a comparison is a service of its own."""

from pathlib import Path

import httpx
import pytest

from loadtests.plan import key_headers
from loadtests.tune.champion import Champion
from loadtests.tune.versus import Side, served
from serving.security.keys import KeyFile
from tests.integration.conftest import put


@pytest.mark.parametrize("host", ["torchserve", "direct"])
def test_each_side_is_served_with_its_own_variables_until_the_end(tmp_path: Path, host: str) -> None:
    store = put(tmp_path / "store", "linear")
    with served(Side(store, environment={"MARLOOP_TELEMETRY": "off", "MARLOOP_HOST": host})) as settings:
        url = settings.inference_url
        assert httpx.post(f"{url}/predictions/linear", json={"x": 6}).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/ping")


def test_what_keys_cost_is_asked_with_a_key(tmp_path: Path) -> None:
    store = put(tmp_path / "store", "linear")
    variables = {"MARLOOP_HOST": "direct", "MARLOOP_API_KEY": KeyFile(store).add("load")}
    with served(Side(store, environment=variables)) as settings:
        url = settings.inference_url
        script = Champion.of(store, "linear").write_requests(
            tmp_path / "load.lua", key_headers(settings, url, variables)
        )
        assert f'"Bearer {variables["MARLOOP_API_KEY"]}"' in script.read_text()
        assert httpx.post(f"{url}/predictions/linear", json={"x": 6}).status_code == 401
        sent = key_headers(settings, url, variables)
        assert httpx.post(f"{url}/predictions/linear", json={"x": 6}, headers=sent).status_code == 200
