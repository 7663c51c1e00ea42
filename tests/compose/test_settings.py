"""Each setting stands once, in the code: what documents it and what passes it on agrees with that."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from deploy.settings import EXAMPLE, PAGE, PARTS, ComposeSettings, example, page
from handlers.observe.settings import CaptureSettings, Credentials, EnvironmentSettings, WorkerSettings
from loadtests.__main__ import app as loadtests
from monitoring.__main__ import app as monitoring
from serving.command_line import ENV_FILE, read_env_file
from serving.hosts.worker_environment import WorkerVariables
from serving.settings import ROOT, Folders, Settings
from serving.traces.settings import TraceSettings
from training.__main__ import app as training

STRUCTS = [part for parts in PARTS.values() for part in parts]
VARIABLES = [setting.variable for part in STRUCTS for setting in part.settings().values()]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
# What a container does without, or has in another form: its database is PostgreSQL, management a socket.
ELSEWHERE = {"MARLOOP_BACKUP_HOURS", "MARLOOP_BACKUPS", "MARLOOP_MANAGEMENT_URL"}
# Of OpenTelemetry: those of other signals and exporters, and files, which a container has not.
NOT_OF_TRACES = re.compile("METRIC|LOGS|LOGRECORD|BLRP|ZIPKIN|PROMETHEUS|PYTHON|CONFIG_FILE|CERTIFICATE|CLIENT_KEY")


def sources() -> Iterator[str]:
    for room in ("handlers", "serving", "training", "monitoring", "loadtests", "marloop"):
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
    assert named - set(VARIABLES) == {ENV_FILE, "MARLOOP_TREE", "MARLOOP_RAY_OF", "MARLOOP_RAY_METRICS"}
    assert ENV_FILE in example()


def test_an_option_of_a_command_is_a_setting_with_its_default() -> None:
    settings = {setting.variable: setting for part in STRUCTS for setting in part.settings().values()}
    commands = [command for app in (training, monitoring, loadtests) for command in get_command(app).commands.values()]  # type: ignore[attr-defined]
    options = [option for command in commands for option in command.params if option.envvar]
    assert len({option.envvar for option in options}) > 8
    for option in options:
        setting = settings[option.envvar]
        assert setting.default is None or str(setting.default) == str(option.default)  # a path, or its text


@pytest.mark.parametrize("part", STRUCTS, ids=lambda part: part.__name__)
def test_the_values_of_env_example_are_the_defaults(part: type[EnvironmentSettings]) -> None:
    assert part.from_environment(read_env_file(EXAMPLE)) == part()


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
    return loaded


def test_the_containers_get_every_setting_of_theirs(services: dict[str, Any]) -> None:
    workers = names(WorkerSettings, CaptureSettings, WorkerVariables) | {"MARLOOP_TELEMETRY"}
    kept = [part for title in ("Monitor", "What is kept", "Retraining") for part in PARTS[title]]
    assert workers - set(services["torchserve"]["environment"]) == set()
    given = {name.removesuffix("_FILE") for name in services["monitor"]["environment"]}
    assert names(Credentials, *kept) - given == ELSEWHERE


def test_what_serves_gets_every_variable_of_opentelemetrys_traces_where_it_is_set(services: dict[str, Any]) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.environment_variables", reason="the extra otel is not installed")
    variables = {name for name in vars(sdk) if name.startswith("OTEL_") and not NOT_OF_TRACES.search(name)}
    passed = {
        service: {name: value for name, value in dict(parts.get("environment", {})).items() if name.startswith("OTEL_")}
        for service, parts in services.items()
    }
    assert {service for service, given in passed.items() if given} == {"torchserve"}
    assert variables | names(TraceSettings) <= passed["torchserve"].keys()
    assert {*passed["torchserve"].values()} == {None}  # no default: what is not set is not passed on


def test_a_container_publishes_grpc_where_it_is_on(services: dict[str, Any]) -> None:
    file = services["torchserve"]["extends"]["file"]
    ports = {}
    for switch in ("on", "off"):
        extended = yaml.safe_load((ROOT / file.replace("${MARLOOP_GRPC:-off}", switch)).read_text())
        service = extended["services"][services["torchserve"]["extends"]["service"]]
        assert service["environment"] == {"MARLOOP_GRPC": switch}
        ports[switch] = service.get("ports", [])
    assert ports == {"on": ["${BIND_ADDRESS:-127.0.0.1}:${MARLOOP_GRPC_PORT:-8001}:8001"], "off": []}


def test_each_secret_of_a_container_is_a_file_that_is_mounted(services: dict[str, Any]) -> None:
    files = {
        name: {Path(value).name for value in environment.values() if str(value).startswith("/run/secrets/")}
        for name, service in services.items()
        if (environment := service.get("environment", {}))
    }
    mounted = {name: set(service.get("secrets", [])) for name, service in services.items()}
    assert {name: held for name, held in files.items() if held != mounted[name]} == {}
    assert set().union(*mounted.values()) == yaml.safe_load(COMPOSE)["secrets"].keys()
    assert mounted["torchserve"] == {"marloop_events_token"}


def test_the_files_of_secrets_are_made_once_and_take_what_was_set_before(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command = ["sh", str(ROOT / "deploy" / "make-secrets.sh")]
    environ = {"PATH": os.environ["PATH"], "SECRETS_DIR": str(folder), "POSTGRES_PASSWORD": "old"}
    subprocess.run(command, env=environ, check=True, capture_output=True)
    secrets = {path.name: path.read_text() for path in folder.iterdir()}
    assert secrets.keys() == yaml.safe_load(COMPOSE)["secrets"].keys()
    assert secrets["postgres_password"] == "old"
    assert secrets["database_url"] == "postgresql://marloop:old@database:5432/marloop"
    assert len({*secrets.values()}) == 5
    assert len(secrets["marloop_token"]) == 64
    assert folder.stat().st_mode & 0o777 == 0o700
    again = subprocess.run(command, env=environ | {"POSTGRES_PASSWORD": "new"}, check=True, capture_output=True)
    assert again.stdout == b""
    assert {path.name: path.read_text() for path in folder.iterdir()} == secrets


def test_what_is_passed_on_has_the_defaults_of_the_code_alone(services: dict[str, Any]) -> None:
    passed = {
        name: value
        for service in services.values()
        for name, value in dict(service.get("environment", {})).items()
        if name in VARIABLES and f"${{{name}" in str(value)
    }
    assert len(passed) > 30
    own = {"CAPTURE_URL"}  # an address among containers
    assert {name: value for name, value in passed.items() if name not in own and value != f"${{{name}:-}}"} == {}


def test_what_compose_reads_by_itself_has_the_defaults_of_env_example() -> None:
    documented = dict(re.findall(r"^([A-Z_]+)=(.*)$", example(), re.MULTILINE))
    own = names(ComposeSettings) | names(Settings, Folders)
    defaults = [(name, value) for name, value in re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", COMPOSE) if name in own]
    assert len(defaults) > 10
    assert [(name, value) for name, value in defaults if value != documented[name]] == []
