"""Locust in the stack: the master counts and judges what two workers send."""

import json
from pathlib import Path

import pytest

from tests.compose.stack import Stack

pytestmark = pytest.mark.compose
RIGHT = 'sum(max_over_time(locust_requests_total{outcome="right"}[10m]))'
USERS = "max(max_over_time(locust_users[10m]))"


def test_a_smoke_run_from_two_workers_passes_its_gate_and_is_seen_in_prometheus(stack: Stack, tmp_path: Path) -> None:
    slo = tmp_path / "slo.yaml"  # how fast a busy machine answers is not what is looked at
    slo.write_text("default: {p95_ms: 10000, p99_ms: 10000, error_ratio: 0, throughput: 1}")
    mount = ("--volume", f"{slo}:/app/loadtests/slo.yaml:ro")
    run = ("--profile", "load", "run", "--rm", "--use-aliases", "--no-TTY", *mount, "locust")
    output = stack.compose(*run)  # exits with the verdict
    assert "every objective is met" in output
    workers = json_lines(stack.compose("--profile", "load", "ps", "--all", "--format", "json", "locust-worker"))
    assert [(one["State"], one["ExitCode"]) for one in workers] == [("exited", 0)] * 2
    assert stack.query(USERS) == 5
    assert (stack.query(RIGHT) or 0) > 0


def test_without_its_profile_no_load_is_made(stack: Stack) -> None:
    assert not {"locust", "locust-worker"} & set(stack.compose("config", "--services").split())


def json_lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]
