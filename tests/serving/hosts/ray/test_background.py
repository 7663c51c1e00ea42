"""What the start of the Ray host waits for, and where it gives up."""

import time
from pathlib import Path
from typing import Any

import pytest

from serving.hosts.host import LaunchError
from serving.hosts.ray import background
from serving.hosts.ray.background import FRONT, HEAD, KEEPER, PARTS, log
from serving.settings import Settings
from serving.supervision.supervisor import State


class Parts:
    """A supervisor of parts that run, but for the head."""

    def __init__(self, head: str) -> None:
        self._states = dict.fromkeys(PARTS, "RUNNING") | {HEAD: head}
        self.stopped: tuple[str, ...] = ()

    def states(self) -> list[State]:
        return [State(name, state, 1, 0.0, "") for name, state in self._states.items()]

    def stop(self, *names: str) -> None:
        self.stopped = names


def check(folder: Path, said: str, supervisor: Any) -> None:
    settings = Settings(run_dir=folder)
    log(settings, HEAD).write_text(said)
    background._check(settings, supervisor, [HEAD, FRONT, KEEPER], time.monotonic() + 60, "it does not answer")


@pytest.mark.parametrize("state", ["BACKOFF", "EXITED"])
def test_a_head_that_ray_gave_up_as_slow_is_waited_for_as_the_supervisor_starts_it_again(
    tmp_path: Path, state: str
) -> None:
    said = "Exception: The current node timed out during startup. This could happen because …"
    check(tmp_path, said, Parts(state))


@pytest.mark.parametrize(
    ("state", "said"), [("BACKOFF", "no such option"), ("FATAL", "timed out during startup"), ("EXITED", "")]
)
def test_another_failure_ends_the_start_with_the_end_of_the_log(tmp_path: Path, state: str, said: str) -> None:
    parts = Parts(state)
    with pytest.raises(LaunchError, match=f"(?s)ray-head of the Ray host ended.*{said}"):
        check(tmp_path, said, parts)
    assert parts.stopped == (HEAD, FRONT, KEEPER)
