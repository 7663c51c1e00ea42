"""Who may ask the inference port: the rule for an address, and what a start says or refuses by it."""

from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from serving.__main__ import app
from serving.hosts.direct import background
from serving.hosts.host import LaunchError
from serving.security.exposure import audience, why_closed
from serving.security.keys import KeyFile
from serving.settings import HostName, Settings
from tests.serving.security.test_grpc_gate import codes
from tests.serving.security.test_keys import Guarded, bearer

WAY_OUT = r"no API key guards it: `marloop keys add NAME` makes one, or MARLOOP_OPEN=on lets everybody in$"


def at(settings: Settings, address: str, host: HostName = "direct") -> Settings:
    return replace(settings, bind_address=address, host=host)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.7", "model.example", "::ffff:10.0.0.7"])
@pytest.mark.parametrize("grpc", [False, True])
def test_where_others_reach_it_the_direct_host_starts_nothing_without_a_key(
    settings: Settings, address: str, grpc: bool
) -> None:
    exposed = replace(at(settings, address), grpc=grpc)
    with pytest.raises(LaunchError, match=WAY_OUT):
        background.start(exposed)
    with pytest.raises(LaunchError, match=WAY_OUT):
        background.foreground(exposed)
    assert not settings.run_dir.exists()


@pytest.mark.parametrize("command", ["up", "supervise"])
def test_the_commands_say_so_in_one_sentence(settings: Settings, command: str) -> None:
    result = CliRunner().invoke(app, [command], env=at(settings, "10.0.0.7").to_environment(), catch_exceptions=False)
    said = "error: others can reach the inference port at 10.0.0.7, and no API key guards it: "
    assert (result.exit_code, result.output.startswith(said), result.output.count("\n")) == (1, True, 1)


def test_a_key_or_marloop_open_or_loopback_lets_it_start(settings: Settings) -> None:
    exposed = at(settings, "0.0.0.0")
    for address in ("127.0.0.1", "localhost", "::1", "127.0.0.9"):
        assert why_closed(at(settings, address)) == ""
    assert why_closed(replace(exposed, open=True)) == ""
    keys = KeyFile(settings.model_store)
    settings.model_store.mkdir(parents=True)
    keys.add("app")
    assert why_closed(exposed) == ""
    keys.revoke("app")
    assert "no API key" in why_closed(exposed)
    keys.path.write_text("{")
    assert "damaged" in why_closed(exposed)


def test_keys_may_lie_in_a_file_elsewhere(settings: Settings, tmp_path: Path) -> None:
    exposed = replace(at(settings, "0.0.0.0"), keys_file=tmp_path / "mounted.json")
    assert WAY_OUT[:20] in why_closed(exposed)
    environ = exposed.to_environment()
    key = CliRunner().invoke(app, ["keys", "add", "app"], env=environ, catch_exceptions=False).stdout
    assert key.startswith("mar_")
    assert [*(KeyFile(tmp_path, exposed.keys_file).read() or {})] == ["app"]
    assert why_closed(exposed) == ""
    assert not KeyFile(settings.model_store).path.exists()


def test_of_a_container_the_published_address_counts(settings: Settings) -> None:
    inside = at(settings, "0.0.0.0")
    assert why_closed(replace(inside, published_address="127.0.0.1")) == ""
    assert "at 10.0.0.7" in why_closed(replace(inside, published_address="10.0.0.7"))


def test_where_others_reach_it_removing_the_file_of_the_keys_opens_nothing(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, always=True)
    assert guarded.status() == 401
    key = guarded.file.add("app")
    assert guarded.status(**bearer(key)) == 200
    guarded.file.path.unlink()
    assert guarded.status(**bearer(key)) == 401
    assert guarded.status() == 401


def test_over_grpc_the_rule_is_the_same(tmp_path: Path) -> None:
    pytest.importorskip("grpc", reason="grpcio is not installed: pip install -e '.[grpc]'")
    assert codes(tmp_path, always=True)["infer"] == "UNAUTHENTICATED"


def test_it_is_said_who_may_ask(settings: Settings) -> None:
    here, exposed = at(settings, "127.0.0.1"), at(settings, "0.0.0.0")
    assert audience(here) == "the inference port answers this machine alone, without an API key"
    everybody = "the inference port answers everybody who reaches 0.0.0.0"
    assert audience(replace(exposed, open=True)) == f"{everybody}, without an API key: MARLOOP_OPEN is on"
    settings.model_store.mkdir(parents=True)
    KeyFile(settings.model_store).add("app")
    assert audience(here) == "the inference port answers this machine alone, with an API key"
    for guarded in (exposed, replace(exposed, open=True)):
        assert audience(guarded) == f"{everybody}, with an API key"
    KeyFile(settings.model_store).path.write_text("{")
    assert audience(here).startswith("the inference port answers nobody: ")


def test_torchserve_warns_where_others_reach_it_since_it_has_no_keys(settings: Settings) -> None:
    settings.model_store.mkdir(parents=True)
    KeyFile(settings.model_store).add("app")
    here = at(settings, "127.0.0.1", "torchserve")
    assert audience(here) == "the inference port answers this machine alone, without an API key"
    said = audience(at(settings, "0.0.0.0", "torchserve"))
    assert said.startswith("warning: the inference port answers everybody who reaches 0.0.0.0, and TorchServe cannot")
