import re
from pathlib import Path

import pytest
from typer.main import get_command

from handlers.service import CAPTURED_ROWS
from loadtests.__main__ import app as loadtests
from monitoring.__main__ import app as monitoring
from monitoring.retraining.wiring import Policies
from monitoring.store.retention import Retention
from serving import env_file
from serving.settings import ROOT, Settings
from training.__main__ import app as training

EXAMPLE = (ROOT / ".env.example").read_text()
READ_ELSEWHERE = {  # by workers, and by the monitor
    *("MARLOOP_LOG_SAMPLE", "MARLOOP_CAPTURE_SAMPLE", "MARLOOP_CAPTURE_ROWS_PER_SECOND", "MARLOOP_TOKEN"),
    "MARLOOP_WORKER_ENV",
    *("MARLOOP_KEEP_DAYS", "MARLOOP_KEEP_ROWS", "MARLOOP_KEEP_WAITING_DAYS", "MARLOOP_PRUNE_SHARE"),
    *("MARLOOP_BACKUP_HOURS", "MARLOOP_BACKUPS", "MARLOOP_KEEP_JOBS_DAYS", "MARLOOP_KEEP_REPORTS_DAYS"),
    *("MARLOOP_KEEP_LOGS_DAYS", "MARLOOP_KEEP_METRICS_DAYS", "MARLOOP_KEEP_AUDIT_DAYS", "MARLOOP_KEEP_VERSIONS"),
    *("MARLOOP_QUALITY_HOURS", "MARLOOP_QUALITY_ROWS", "MARLOOP_LIVE_INTERVAL"),
    *("MARLOOP_RETRAIN", "MARLOOP_RETRAIN_DAYS", "MARLOOP_RETRAIN_MOST_ROWS"),
    *("MARLOOP_RETRAIN_HOLDOUT", "MARLOOP_RETRAIN_ROWS", "MARLOOP_RETRAIN_COOLDOWN_HOURS", "MARLOOP_RETRAIN_PER_DAY"),
    *("MARLOOP_RETRAIN_EVERY_HOURS", "MARLOOP_RETRAIN_LIMIT_MINUTES", "MARLOOP_JUDGE_MARGIN"),
    *("MARLOOP_JUDGE_SLICE_TOLERANCE", "MARLOOP_JUDGE_LATENCY", "MARLOOP_JUDGE_CLASS_ROWS", "MARLOOP_SHADOW_REQUESTS"),
    *("MARLOOP_WATCH_HOURS", "MARLOOP_WATCH_ROWS"),
}


def documented() -> dict[str, str]:
    return dict(re.findall(r"^(MARLOOP_\w+)=(.*)$", EXAMPLE, re.MULTILINE))


def options_of_commands() -> set[str]:
    apps = [get_command(app).commands.values() for app in (training, monitoring, loadtests)]  # type: ignore[attr-defined]
    options = [option for commands in apps for command in commands for option in command.params]
    return {str(option.envvar) for option in options if option.envvar}


def test_without_variables_everything_listens_on_loopback() -> None:
    settings = Settings.from_environment({})
    assert (settings.bind_address, settings.private_address) == ("127.0.0.1", "127.0.0.1")
    assert settings.inference_url == "http://127.0.0.1:8080"
    assert settings.management_url == "http://127.0.0.1:8081"


def test_every_setting_is_read_from_its_variable() -> None:
    wanted = Settings(
        *("0.0.0.0", "10.0.0.1", 1, 2, 3, 4, 5, 6, 7),
        model_store=Path("/models"),
        run_dir=Path("/run/marloop"),
        metrics_dir=Path("/dev/shm/workers"),
        metrics_host="torchserve",
        management_hosts="torchserve, gpu-1",
        management_socket=Path("/control/management.sock"),
        telemetry=False,
    )
    assert Settings.from_environment(wanted.to_environment()) == wanted
    assert len(wanted.to_environment()) == 16


def test_our_own_commands_manage_through_a_socket_in_the_temporary_folder_unless_another_is_named() -> None:
    assert Settings().management_address == f"unix:{Settings().temporary}/management.sock"
    named = Settings.from_environment({"MARLOOP_MANAGEMENT_SOCKET": "/control/management.sock"})
    assert named.management_address == "unix:/control/management.sock"


def test_names_of_this_machine_are_separated_by_commas_or_spaces() -> None:
    assert Settings(management_hosts="Torchserve,  gpu-1 gpu-2").hosts == {"torchserve", "gpu-1", "gpu-2"}


def test_an_empty_variable_counts_as_unset() -> None:
    empty = dict.fromkeys(Settings().to_environment(), "")
    assert Settings.from_environment(empty) == Settings()


def test_a_relative_path_starts_at_the_repository() -> None:
    settings = Settings.from_environment({"MARLOOP_MODEL_STORE": "elsewhere", "MARLOOP_RUN_DIR": "/run/marloop"})
    assert settings.model_store == ROOT / "elsewhere"
    assert settings.run_dir == Path("/run/marloop")


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "8080.0", " 8080", "²"])
def test_what_is_no_port_is_refused_with_the_variable(text: str) -> None:
    with pytest.raises(ValueError, match=rf"MARLOOP_METRICS_PORT is '{text}'; it must be a port from 1 to 65535"):
        Settings.from_environment({"MARLOOP_METRICS_PORT": text})


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_a_server_on_all_addresses_is_reached_on_loopback(address: str) -> None:
    settings = Settings(bind_address=address, private_address=address)
    assert settings.inference_url == "http://127.0.0.1:8080"
    assert settings.management_url == "http://127.0.0.1:8081"


def test_each_run_folder_has_a_temporary_folder_with_a_short_path(tmp_path: Path) -> None:
    first, second = Settings(run_dir=tmp_path / "a"), Settings(run_dir=tmp_path / "b")
    assert first.temporary != second.temporary
    assert first.temporary == Settings(run_dir=tmp_path / "b" / ".." / "a").temporary
    # A Unix socket's path has at most 107 bytes, and TorchServe adds a name.
    deep = Settings(run_dir=tmp_path / ("long" * 50))
    assert len(deep.temporary.name) == len(first.temporary.name) < 30


def test_env_example_lists_exactly_the_variables_that_exist() -> None:
    assert set(documented()) == set(Settings().to_environment()) | options_of_commands() | READ_ELSEWHERE


def test_every_variable_that_the_code_names_is_in_env_example() -> None:
    rooms = ("handlers", "serving", "training", "monitoring", "loadtests")
    sources = [*(path for room in rooms for path in ROOT.glob(f"{room}/*.py")), ROOT / "Makefile"]
    named = {name for path in sources for name in re.findall(r"MARLOOP_[A-Z_]*[A-Z]", path.read_text())}
    assert named
    # Which file is read cannot stand in the file itself.
    assert named <= set(documented()) | {env_file.VARIABLE}
    assert env_file.VARIABLE in EXAMPLE


def test_the_values_in_env_example_are_the_defaults() -> None:
    values = documented()
    assert Settings.from_environment(values) == Settings()
    assert (values["MARLOOP_CACHE"], values["MARLOOP_RUNS"]) == (".cache", "runs")
    command = get_command(training).commands["train"]  # type: ignore[attr-defined]
    for option in command.params:
        if option.envvar:
            assert option.default == ROOT / values[str(option.envvar)]


def test_the_defaults_of_the_loop_are_those_of_env_example() -> None:
    assert Policies.from_environment(documented()) == Policies.from_environment({})


def test_the_defaults_of_capture_and_retention_are_those_of_env_example() -> None:
    values = documented()
    assert Retention.from_environment(values) == Retention()
    assert float(values["MARLOOP_CAPTURE_ROWS_PER_SECOND"]) == CAPTURED_ROWS
    assert values["MARLOOP_CAPTURE_SAMPLE"] == "1"
