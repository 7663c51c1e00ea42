"""The command says what is wrong before any load is sent."""

import shutil
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtests.__main__ import app
from loadtests.plan import Plan, key_headers
from serving.registry import Registry
from serving.security import house_key
from serving.settings import Settings
from tests.support.chat_archive import contract, echoed
from tests.support.serving.stores import add, add_contract
from tests.support.sinks import sink

runner = CliRunner()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A store with one model, and nothing that serves it: nothing listens on port 1."""
    monkeypatch.setenv("MARLOOP_MODEL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("MARLOOP_INFERENCE_PORT", "1")
    registry = Registry(tmp_path / "store")
    add(registry)
    return registry


def run(*arguments: str) -> tuple[int, str]:
    result = runner.invoke(app, ["run", *arguments])
    return result.exit_code, result.output


def test_without_a_service_the_way_out_is_named(store: Registry, tmp_path: Path) -> None:
    code, text = run("--model", "doubling", "--reports", str(tmp_path / "reports"))
    assert code == 2
    assert "no service answers at http://127.0.0.1:1" in text
    assert "`make up` starts it" in text
    assert not (tmp_path / "reports").exists()


def test_another_host_is_asked_when_it_is_named(store: Registry) -> None:
    code, text = run("--host", "http://127.0.0.1:2/")
    assert code == 2
    assert "no service answers at http://127.0.0.1:2 " in text


def test_a_key_of_the_environment_is_sent_and_its_refusal_told(
    store: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("mar_b\n")
    with sink() as service:
        for environ, sent in (
            ({}, None),
            ({"MARLOOP_API_KEY": "mar_a"}, "Bearer mar_a"),
            ({"MARLOOP_API_KEY_FILE": str(tmp_path / "key")}, "Bearer mar_b"),
        ):
            service.statuses = [401]
            with monkeypatch.context() as patch:
                for name, value in environ.items():
                    patch.setenv(name, value)
                code, text = run("--host", service.url)
            assert code == 2
            assert "MARLOOP_API_KEY must be a key for it" in text
            assert service.headers[-1].get("authorization") == sent


def test_a_file_without_a_key_is_told(store: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MARLOOP_API_KEY_FILE", str(tmp_path / "none"))
    assert run()[0] == 2
    assert "MARLOOP_API_KEY_FILE is" in run()[1]


def test_without_a_key_of_the_environment_this_machines_host_lets_a_run_in(tmp_path: Path) -> None:
    settings = Settings(board_dir=tmp_path)
    house_key.make(tmp_path)
    assert key_headers(settings, settings.inference_url, {}) == house_key.headers(tmp_path)
    assert key_headers(settings, "http://elsewhere:8080", {}) == {}


def test_a_model_without_champion_is_told_how_to_get_one(store: Registry) -> None:
    code, text = run("--model", "nobody")
    assert code == 2
    assert "nobody has no champion: run `make train MODEL=nobody`" in text


def test_an_empty_store_is_told_how_to_fill_it(store: Registry) -> None:
    shutil.rmtree(store.store)
    code, text = run()
    assert code == 2
    assert "run `make up`" in text


def test_an_unknown_profile_is_told_the_known_ones(store: Registry) -> None:
    code, text = run("--profile", "storm")
    assert code == 2
    assert all(name in text for name in ("smoke", "load", "stress", "spike", "soak"))


def test_a_fault_in_the_objectives_is_told_before_the_run(store: Registry, tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text("default: {p95: 1}")
    code, text = run("--slo", str(path))
    assert code == 2
    assert "unknown field `p95`" in text


def test_a_taken_port_is_told_with_the_variable_that_names_another(
    store: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtests.__main__._check_service", lambda settings, url, asked: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = run("--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "MARLOOP_LOCUST_PORT" in text


def test_the_profiles_are_listed() -> None:
    result = runner.invoke(app, ["list"])
    assert all(name in result.output for name in ("smoke", "load", "stress", "spike", "soak"))


@pytest.mark.parametrize(
    "plan", [Plan(), Plan("flights", "spike", 12, 3.5, "127.0.0.1:8089", "/reports/1", "/slo.yaml", 7)]
)
def test_a_plan_survives_the_environment(plan: Plan) -> None:
    assert Plan.from_environment(plan.to_environment()) == plan


@pytest.mark.parametrize("command", [["guard"], ["tune"], ["versus", "--set", "A=1"]])
def test_what_measures_with_wrk_leaves_a_language_model_alone_and_says_what_does_not(
    store: Registry, tmp_path: Path, command: list[str]
) -> None:
    add_contract(store, contract("chat", echoed("Hello")))
    reports = ["--reports", str(tmp_path)] if command == ["tune"] else []
    result = runner.invoke(app, [*command, "--model", "chat", *reports])
    assert result.exit_code == 2
    assert "chat is a language model" in result.output or "apt-get install wrk" in result.output
