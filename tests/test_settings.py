"""Each setting stands once, in the code: what documents it and what passes it on agrees with that."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from typer.main import get_command

from deploy.settings import EXAMPLE, PAGE, PARTS, ComposeSettings, example, page
from handlers.observe.settings import CaptureSettings, Credentials, EnvironmentSettings, WorkerSettings
from loadtests.__main__ import app as loadtests
from monitoring.__main__ import app as monitoring
from serving.command_line import ENV_FILE, read_env_file
from serving.hosts.torchserve.worker_environment import WorkerVariables
from serving.settings import ROOT, Folders, Settings
from training.__main__ import app as training

STRUCTS = [part for parts in PARTS.values() for part in parts]
VARIABLES = [setting.variable for part in STRUCTS for setting in part.settings().values()]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
# What a container does without, or has in another form: its database is PostgreSQL, management a socket.
ELSEWHERE = {"MARLOOP_BACKUP_HOURS", "MARLOOP_BACKUPS", "MARLOOP_MANAGEMENT_URL"}


def sources() -> Iterator[str]:
    for room in ("handlers", "serving", "training", "monitoring", "loadtests"):
        yield from (path.read_text() for path in (ROOT / room).rglob("*.py"))
    yield (ROOT / "Makefile").read_text()


def names(*parts: type[EnvironmentSettings]) -> set[str]:
    return {setting.variable for part in parts for setting in part.settings().values()}


def test_env_example_and_the_page_are_what_the_code_says() -> None:
    assert (EXAMPLE.read_text(), PAGE.read_text()) == (example(), page()), "run `python -m deploy.settings`"


def test_no_variable_has_two_homes() -> None:
    assert len(set(VARIABLES)) == len(VARIABLES)


def test_every_struct_of_settings_is_documented() -> None:
    internal = {"Plan"}  # from the command of a load test to the processes that it starts
    declaration = re.compile(r"^class (\w+)\(EnvironmentSettings", re.MULTILINE)
    declared = {name for text in sources() for name in declaration.findall(text)}
    assert declared - internal == {part.__name__ for part in STRUCTS} - {ComposeSettings.__name__}


def test_every_setting_says_what_it_is() -> None:
    settings = [setting for part in STRUCTS for setting in part.settings().values()]
    assert [setting.variable for setting in settings if not setting.description] == []


def test_every_variable_that_the_code_names_is_a_setting() -> None:
    named = {name for text in sources() for name in re.findall(r"MARLOOP_[A-Z_]*[A-Z]\b(?!_)", text)}
    # Which file is read cannot stand in the file itself; the others are what a process tells those that it starts.
    assert named - set(VARIABLES) == {ENV_FILE, "MARLOOP_BENCH", "MARLOOP_DIRECT_WORKERS"}
    assert ENV_FILE in example()


def test_an_option_of_a_command_is_a_setting_with_its_default() -> None:
    settings = {setting.variable: setting for part in STRUCTS for setting in part.settings().values()}
    commands = [command for app in (training, monitoring, loadtests) for command in get_command(app).commands.values()]  # type: ignore[attr-defined]
    options = [option for command in commands for option in command.params if option.envvar]
    assert len({option.envvar for option in options}) > 8
    for option in options:
        assert settings[option.envvar].default in (option.default, None)


@pytest.mark.parametrize("part", STRUCTS, ids=lambda part: part.__name__)
def test_the_values_of_env_example_are_the_defaults(part: type[EnvironmentSettings]) -> None:
    assert part.from_environment(read_env_file(EXAMPLE)) == part()


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
    return loaded


def test_the_containers_get_every_setting_of_theirs(services: dict[str, Any]) -> None:
    workers = names(WorkerSettings, CaptureSettings, Credentials, WorkerVariables) | {"MARLOOP_TELEMETRY"}
    kept = [part for title in ("Monitor", "What is kept", "Retraining") for part in PARTS[title]]
    assert workers - set(services["torchserve"]["environment"]) == set()
    assert names(Credentials, *kept) - set(services["monitor"]["environment"]) == ELSEWHERE


def test_what_is_passed_on_has_the_defaults_of_the_code_alone(services: dict[str, Any]) -> None:
    passed = {
        name: value
        for service in services.values()
        for name, value in dict(service.get("environment", {})).items()
        if name in VARIABLES and f"${{{name}" in str(value)
    }
    assert len(passed) > 30
    own = {"CAPTURE_URL", "MARLOOP_TOKEN", "POSTGRES_PASSWORD"}  # an address among containers; what must be set
    assert {name: value for name, value in passed.items() if name not in own and value != f"${{{name}:-}}"} == {}


def test_what_compose_reads_by_itself_has_the_defaults_of_env_example() -> None:
    documented = dict(re.findall(r"^([A-Z_]+)=(.*)$", example(), re.MULTILINE))
    own = names(ComposeSettings) | names(Settings, Folders)
    defaults = [(name, value) for name, value in re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", COMPOSE) if name in own]
    assert len(defaults) > 10
    assert [(name, value) for name, value in defaults if value != documented[name]] == []
