"""The commands as a user calls them; only those of an idle machine, `tests/integration` has the others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import typer
from typer.testing import CliRunner

from serving.__main__ import app
from serving.command_line import STORE, Store
from serving.registry import Registry
from serving.settings import ROOT, Settings
from tests.support.serving.stores import add, alter


class Commands:
    """Runs commands with the settings of a test; an error that is not reported fails the test."""

    def __init__(self, settings: Settings) -> None:
        self._environ = settings.to_environment()

    def __call__(self, *arguments: str, **environ: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, arguments, env=self._environ | environ, catch_exceptions=False)
        return result.exit_code, result.output


@pytest.fixture
def serving(settings: Settings) -> Commands:
    return Commands(settings)


def test_status_without_a_server_says_how_to_start_one(serving: Commands) -> None:
    assert serving("status") == (1, "TorchServe does not run: `make up` starts it\n")


def test_what_does_not_run_is_the_host_that_is_chosen(serving: Commands) -> None:
    said = "the direct host does not run: `make up HOST=direct` starts it\n"
    assert serving("status", MARLOOP_HOST="direct") == (1, said)
    what = "error: MARLOOP_HOST is 'jetty'; it must be direct or ray or torchserve\n"
    assert serving("status", MARLOOP_HOST="jetty") == (1, what)


def test_deploy_without_a_server_starts_none(serving: Commands, settings: Settings) -> None:
    assert serving("deploy") == (1, "error: TorchServe does not run here: `make up` starts it\n")
    assert not settings.log.exists()


def test_down_without_a_server_is_no_error(serving: Commands) -> None:
    assert serving("down") == (0, "nothing ran\n")


@pytest.mark.parametrize("command", ["launch", "up"])
def test_with_an_empty_store_nothing_starts(serving: Commands, command: str) -> None:
    code, output = serving(command)
    assert code == 1
    assert "error: " in output
    assert "there is nothing to serve" in output
    assert "Traceback" not in output


def test_example_prints_the_request_as_json(serving: Commands, registry: Registry) -> None:
    add(registry)
    code, output = serving("example", "doubling")
    assert (code, json.loads(output)) == (0, {"x": 6.0})


def test_example_of_an_unknown_model_says_how_to_get_it(serving: Commands) -> None:
    assert serving("example", "flights") == (1, "error: flights has no champion: run `make train MODEL=flights`\n")


def test_example_of_an_altered_archive_names_it(serving: Commands, registry: Registry) -> None:
    path = add(registry)
    alter(path)
    code, output = serving("example", "doubling")
    assert code == 1
    assert output.startswith(f"error: {path} has SHA-256")


@pytest.fixture
def loadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives without a model count as such that load."""
    monkeypatch.setattr("serving.hosts.version_commands.check_loads", lambda path: None)


@pytest.mark.usefixtures("loadable")
def test_promote_makes_a_version_champion(serving: Commands, registry: Registry) -> None:
    add(registry, number="1.0", state="champion")
    add(registry, number="1.1", state="challenger")
    assert serving("promote", "doubling", "1.1") == (
        0,
        "doubling 1.1 is champion; TorchServe serves it after `make up`, the other hosts at once\n",
    )
    assert registry.champions()["doubling"][0] == "1.1"


@pytest.mark.parametrize(
    ("arguments", "known"),
    [(("tripling", "1.0"), "none"), (("doubling", "2.0"), "1.0"), (("[red]", "1.0"), "none")],
)
def test_promote_of_what_is_not_registered_says_what_is(
    serving: Commands, registry: Registry, arguments: tuple[str, str], known: str
) -> None:
    add(registry)
    expected = f"error: {' '.join(arguments)} is not registered; there are {known}\n"
    assert serving("promote", *arguments) == (1, expected)


@pytest.mark.parametrize("command", [("up",), ("status",), ("launch",), ("example", "a"), ("promote", "a", "1.0")])
@pytest.mark.usefixtures("frontend")
def test_a_damaged_registry_is_an_error_that_names_it(
    serving: Commands, registry: Registry, command: tuple[str, ...]
) -> None:
    add(registry)
    registry.path.write_text("{")
    code, output = serving(*command)
    assert code == 1
    assert output.startswith(f"error: {registry.path} is damaged: ")


def test_status_of_a_server_that_does_not_answer_shows_every_model_and_fails(
    serving: Commands, registry: Registry, frontend: int
) -> None:
    add(registry, "a")
    alter(add(registry, "b"))
    code, output = serving("status")
    assert code == 1
    assert "ConnectError" in output
    assert "refused: " in output
    assert f"process {frontend}; memory in MB: frontend " in output


def test_down_stops_what_runs(serving: Commands, frontend: int) -> None:
    assert serving("down") == (0, "stopped 1 processes\n")
    assert not psutil.pid_exists(frontend)


@pytest.mark.parametrize("command", [("up",), ("status",), ("down",), ("launch",), ("example", "a")])
def test_a_bad_port_is_an_error_that_names_the_variable(serving: Commands, command: tuple[str, ...]) -> None:
    code, output = serving(*command, MARLOOP_INFERENCE_PORT="http")
    assert (code, output) == (1, "error: MARLOOP_INFERENCE_PORT is 'http'; it must be a port from 1 to 65535\n")


@pytest.mark.parametrize("command", ["launch", "management"])
def test_a_file_without_a_token_is_an_error_that_names_the_variable(
    serving: Commands, registry: Registry, tmp_path: Path, command: str
) -> None:
    add(registry)
    (tmp_path / "token").touch()
    code, output = serving(command, MARLOOP_TOKEN_FILE=str(tmp_path / "token"))
    assert code == 1
    assert "error: MARLOOP_TOKEN_FILE is" in output
    assert "which is empty" in " ".join(output.split())


def test_a_relative_folder_starts_in_the_checkout_where_a_variable_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()

    @app.command()
    def show(store: Store = STORE) -> None:
        typer.echo(store)

    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, [], env={"MARLOOP_MODEL_STORE": "store"}).output == f"{ROOT / 'store'}\n"
    assert CliRunner().invoke(app, ["--store", "store"]).output == "store\n"
    assert CliRunner().invoke(app, []).output == f"{STORE}\n"


def test_list_shows_each_version_with_its_state(serving: Commands, registry: Registry) -> None:
    add(registry)
    add(registry, number="1.1", state="challenger")
    code, output = serving("list")
    assert code == 0
    assert [line.split("│")[1:4] for line in output.splitlines() if "doubling" in line] == [
        [" doubling ", " 1.0     ", " champion   "],
        [" doubling ", " 1.1     ", " challenger "],
    ]
    code, output = serving("list", "doubling", "--json")
    assert code == 0
    assert [(row["model"], row["version"], row["state"]) for row in json.loads(output)] == [
        ("doubling", "1.0", "champion"),
        ("doubling", "1.1", "challenger"),
    ]
    assert serving("list", "wine") == (1, "error: wine is not registered; there are doubling\n")


def test_list_shows_what_is_damaged(serving: Commands, registry: Registry) -> None:
    add(registry)
    content = json.loads(registry.path.read_bytes())
    content["models"]["doubling"]["1.1"] = {"state": "champion"}
    registry.path.write_text(json.dumps(content))
    code, output = serving("list", "--json")
    assert code == 0
    (damaged,) = (row for row in json.loads(output) if row["state"] == "damaged")
    assert (damaged["model"], damaged["version"]) == ("doubling", "1.1")
    assert "sha256" in damaged["fault"] or "archive" in damaged["fault"]


@pytest.mark.usefixtures("loadable")
def test_rollback_promotes_what_the_champion_replaced(serving: Commands, registry: Registry) -> None:
    add(registry)
    add(registry, number="1.1", state="challenger")
    fault = "error: no version is known that doubling 1.0 replaced: choose one of 1.1 by promote\n"
    assert serving("rollback", "doubling") == (1, fault)
    assert serving("promote", "doubling", "1.1")[0] == 0
    assert serving("rollback", "doubling") == (
        0,
        "doubling 1.0 is champion; TorchServe serves it after `make up`, the other hosts at once\n",
    )
    assert registry.champion("doubling").number == "1.0"
    assert registry.promotions()[-1].by == "serving rollback"
    assert serving("rollback", "wine") == (
        1,
        "error: wine has no champion: run `make train MODEL=wine`; those with one are doubling\n",
    )


def test_status_in_json_is_for_programs_and_the_rest_for_people(settings: Settings, registry: Registry) -> None:
    environ = settings.to_environment()
    done = CliRunner().invoke(app, ["status", "--json"], env=environ, catch_exceptions=False)
    assert (done.exit_code, json.loads(done.stdout)["host"], json.loads(done.stdout)["good"]) == (
        1,
        "torchserve",
        False,
    )
    done = CliRunner().invoke(app, ["status", "--json"], env=environ | {"MARLOOP_INFERENCE_PORT": "http"})
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: MARLOOP_INFERENCE_PORT is 'http'")
    assert CliRunner().invoke(app, ["status"], env=environ).stdout.startswith("TorchServe does not run")


def test_status_in_json_has_every_model(serving: Commands, registry: Registry, frontend: int) -> None:
    add(registry, "a")
    alter(add(registry, "b"))
    code, output = serving("status", "--json")
    status = json.loads(output)
    assert (code, status["process"], status["good"]) == (1, frontend, False)
    assert [(model["name"], model["ready"]) for model in status["models"]] == [("a", False), ("b", False)]


def test_logs_are_shown_as_far_as_they_are_asked_for(settings: Settings) -> None:
    command = [sys.executable, "-m", "serving", "logs", "--no-follow", "--lines", "1"]
    environ = os.environ | settings.to_environment()
    none = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert (none.returncode, none.stdout[:25]) == (1, "error: there is no log in")
    settings.run_dir.mkdir(mode=0o700)
    (settings.run_dir / "torchserve.log").write_text("first\nlast\n")
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "last\n")


def test_help_lists_every_command(serving: Commands) -> None:
    code, output = serving("--help")
    assert code == 0
    assert all(command in output for command in ("launch", "up", "status", "down", "example", "promote"))


def test_a_damaged_registry_is_restored_by_a_command(serving: Commands, registry: Registry) -> None:
    add(registry)
    good = registry.path.read_bytes()
    registry.path.write_bytes(good[:50])
    code, output = serving("example", "doubling")
    assert code == 1
    assert "`marloop restore-registry` puts it back" in output
    code, output = serving("restore-registry")
    assert code == 0
    assert "registry.json.bak was put back: doubling 1.0" in output
    assert registry.path.read_bytes() == good
    assert serving("restore-registry") == (0, f"{registry.path} is not damaged\n")


def test_nothing_to_restore_is_an_error_in_a_sentence(serving: Commands, registry: Registry) -> None:
    registry.store.mkdir()
    registry.path.write_bytes(b"{")
    code, output = serving("restore-registry")
    assert code == 1
    assert "can be read: train again" in output


@pytest.mark.usefixtures("loadable")
def test_a_promotion_by_hand_leaves_a_note(serving: Commands, registry: Registry) -> None:
    add(registry)
    add(registry, number="1.1", state="challenger")
    assert serving("promote", "doubling", "1.1")[0] == 0
    (promotion,) = registry.promotions()
    assert (promotion.version, promotion.former, promotion.by) == ("1.1", "1.0", "serving promote")


def test_a_version_that_cannot_be_loaded_is_not_promoted(serving: Commands, registry: Registry) -> None:
    add(registry)
    path = add(registry, number="1.1", state="challenger")
    code, output = serving("promote", "doubling", "1.1")
    assert code == 1
    assert output.startswith("error: ")
    assert path.name in output or "MANIFEST" in output
    assert registry.champion("doubling").number == "1.0"


def test_remove_takes_a_version_with_its_archive_and_report(serving: Commands, registry: Registry) -> None:
    kept, gone = add(registry), add(registry, number="1.1", state="challenger")
    report = registry.store / "reports" / "doubling-1.1.html"
    report.parent.mkdir()
    report.touch()
    assert serving("remove", "doubling", "1.1") == (0, "removed doubling 1.1\n")
    assert [*registry.models()["doubling"]] == ["1.0"]
    assert (kept.exists(), gone.exists(), report.exists()) == (True, False, False)


def test_remove_keeps_a_champion_and_says_what_to_do(serving: Commands, registry: Registry) -> None:
    path = add(registry)
    said = "error: doubling 1.0 is champion: promote another version, or remove the whole model\n"
    assert serving("remove", "doubling", "1.0") == (1, said)
    assert path.exists()


def test_a_whole_model_is_removed_once_that_is_confirmed(serving: Commands, registry: Registry) -> None:
    paths = [add(registry), add(registry, number="1.1", state="challenger")]
    add(registry, "tripling")
    code, output = serving("remove", "doubling")
    assert code == 1
    assert "Remove doubling with all its versions?" in output
    assert serving("remove", "doubling", "--yes") == (0, "removed doubling\n")
    assert registry.models().keys() == {"tripling"}
    assert not any(path.exists() for path in paths)
    assert serving("remove", "doubling", "--yes") == (0, "removed doubling\n")  # what was broken off is done again
    said = "error: quadrupling is not registered; there are tripling\n"
    assert serving("remove", "quadrupling", "--yes") == (1, said)
