"""Workers have what they need, and no secret but their own."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.observe.settings import Credentials
from serving.hosts.torchserve.launch import prepare
from serving.hosts.worker_environment import events_token, worker_environment
from serving.registry import Registry
from serving.settings import Settings
from tests.support.serving.stores import add

SECRETS = {
    "MARLOOP_TOKEN": "the-token",
    "DATABASE_URL": "postgresql://u:the-password@h/d",
    "POSTGRES_PASSWORD": "the-password",
    "PGPASSWORD": "the-password",
    "GRAFANA_PASSWORD": "the-password",
    "AWS_SECRET_ACCESS_KEY": "the-key",
    "AWS_SESSION_TOKEN": "the-token",
    "HF_TOKEN": "the-token",
    "GITHUB_TOKEN": "the-token",
    "PYTHON_KEYRING_PASSWORD": "the-password",
    "MARLOOP_SOMETHING_SECRET": "the-key",
    "SSH_AUTH_SOCK": "/the-socket",
    "PIP_INDEX_URL": "//u:the-password@h",
}
NEEDED = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "LC_ALL": "C.UTF-8",
    "LD_LIBRARY_PATH": "/lib",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "0",
    "MARLOOP_LOG_SAMPLE": "1",
    "MARLOOP_BENCH": "a mark",
    "CAPTURE_URL": "off",
    "PYTHONUNBUFFERED": "1",
}


def test_no_secret_is_passed_on_and_what_is_needed_is() -> None:
    found = worker_environment(SECRETS | NEEDED | {"PYTHONPATH": "/ours", "SOMETHING": "else"})
    assert found == NEEDED | {"MARLOOP_TOKEN": events_token(Credentials("the-token"))}
    assert not any(word in " ".join(found.values()) for word in ("the-token", "the-password", "the-key"))


def test_where_a_token_of_events_is_given_nothing_else_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_text("the-events\n")
    found = worker_environment({"MARLOOP_EVENTS_TOKEN_FILE": str(file), "MARLOOP_RUN_DIR": "/run"})
    assert found == {"MARLOOP_RUN_DIR": "/run", "MARLOOP_TOKEN": "the-events"}


def test_not_even_where_a_secret_lies_is_passed_on(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("the-token")
    environ = {"MARLOOP_TOKEN_FILE": str(file), "DATABASE_URL_FILE": str(file)}
    assert worker_environment(environ) == {"MARLOOP_TOKEN": events_token(Credentials("the-token"))}


def test_what_an_archive_needs_beside_can_be_named() -> None:
    environ = {"MARLOOP_WORKER_ENV": "HF_TOKEN, FEATURES_URL", **SECRETS, "FEATURES_URL": "http"}
    found = worker_environment(environ)
    assert (found["HF_TOKEN"], found["FEATURES_URL"]) == ("the-token", "http")
    assert "AWS_SESSION_TOKEN" not in found
    assert "MARLOOP_TOKEN" in found
    assert found["MARLOOP_TOKEN"] != "the-token"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_the_token_of_events_tells_nothing_of_the_other(token: str) -> None:
    assert events_token(Credentials(token)) == events_token(Credentials(token)) != token
    assert events_token(Credentials(token)) != events_token(Credentials(token + "x"))
    assert len(events_token(Credentials(token))) == 64


def test_without_a_token_there_is_none() -> None:
    assert events_token(Credentials()) == ""
    assert worker_environment({"PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize("secret", SECRETS)
def test_torchserve_starts_without_it(settings: Settings, registry: Registry, secret: str, tmp_path: Path) -> None:
    add(registry)
    environment = prepare(settings, {"PATH": os.environ["PATH"], secret: SECRETS[secret]}).environment
    assert SECRETS[secret] not in environment.values()


def test_variables_of_opentelemetry_stay_outside_the_code_of_archives() -> None:
    environ = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer secret"}
    assert not environ.keys() & worker_environment(environ).keys()
