"""A replay from its beginning to its end."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

import httpx

from monitoring.replay import stack
from monitoring.replay.days import days_of
from monitoring.replay.drive import Drive
from monitoring.replay.pace import Pace
from monitoring.replay.result import result_of
from serving.hosts.host import LaunchError
from serving.hosts.torchserve.management import ManagementError
from serving.settings import Settings
from serving.supervision.companion import Companion, CompanionError
from serving.supervision.supervisor import SupervisorError
from training import recipes
from training.improve.practices.monitored import Replay

# Settings of the loop; others have their defaults. Capture must drop nothing: a day comes in a second.
LOOP = {
    "MARLOOP_RETRAIN_DAYS": "28",
    "MARLOOP_RETRAIN_COOLDOWN_HOURS": "168",
    "MARLOOP_QUALITY_ROWS": "5000",
}
PACE = {
    "MARLOOP_CLOCK": "events",
    "MARLOOP_LIVE_INTERVAL": "0.5",
    "MARLOOP_CAPTURE_ROWS_PER_SECOND": "1000000",
}
TIMEOUT = 60.0  # s of one request
IDLE = 2.0  # s
FAILURES = (CompanionError, LaunchError, ManagementError, SupervisorError, httpx.HTTPError, stack.ReplayError)


class Period(NamedTuple):
    """Model and days of a replay.

    Attributes:
        model: its recipe must have a timeline.
        since: the first day.
        until: the day after the last.
        share: share of the rows that are sampled, 0 to 1.
    """

    model: str
    since: date
    until: date
    share: float = 1.0


def replay(
    period: Period,
    folder: Path,
    cache: Path,
    monitor_of: Callable[[Settings], Companion],
    say: Callable[[str], None],
) -> tuple[Replay | None, str]:
    """Replay a period with all parts of the service.

    Args:
        folder: gets all files; those of an earlier replay in it are removed.
        cache: folder of downloaded data.
        monitor_of: makes the monitor of some settings.

    Returns:
        The result so far, None before the end of the first day; and why it ended early, empty at its end.

    Raises:
        ReplayError: it cannot begin.
        DataError: the data cannot be had.
        KeyError: there is no such recipe.
        ValueError: the recipe has no timeline, or no row of the period.
    """
    started, (model, since, until, share) = time.monotonic(), period
    recipe = recipes.ready(model)
    data = recipe.load(recipe.preset(None), cache)
    rows = recipe.timeline(data)
    if rows is None:
        raise ValueError(f"the recipe {model} has no timeline: nothing tells which of its rows came when")
    days = list(days_of(rows, data.inputs, since, until, share))
    if not days:
        raise ValueError(f"{model} has no rows from {since} to {until}")
    programs = stack.find_programs()
    # Close an idle connection before the monitor does so, after five seconds: a request on its way just then would end
    # the year, as one did on a busy machine.
    client = httpx.Client(timeout=TIMEOUT, trust_env=False, limits=httpx.Limits(keepalive_expiry=IDLE))
    with stack.alone(folder), _environment(folder, cache), client:
        stack.prepare(folder)
        drive, why = None, ""
        try:
            with _terminated_as_interrupted():
                say(f"training {model} 1.0")
                stack.train(model, folder, cache)
                with stack.running(model, folder, programs, monitor_of, say) as running:
                    drive = Drive(running, client, Pace(running, client), say)
                    drive.run(days)
        except KeyboardInterrupt:
            why = "interrupted"
        except FAILURES as error:
            why = str(error)
    if drive is None or not drive.days:
        return None, why
    seconds = round(time.monotonic() - started, 1)
    return result_of(drive, model, recipe.outputs[0].unit, share, LOOP, seconds), why


@contextlib.contextmanager
def _environment(folder: Path, cache: Path) -> Iterator[None]:
    """Set this process's environment, which its child processes inherit, to that of the copy."""
    former = dict(os.environ)
    paths = {"MARLOOP_RUNS": str(folder / "runs"), "MARLOOP_CACHE": str(cache)}
    _replace_environment(stack.environment(former, {**LOOP, **PACE, **paths}))
    try:
        yield
    finally:
        _replace_environment(former)


def _replace_environment(environ: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environ)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Make SIGTERM a KeyboardInterrupt too, so that all programs are stopped."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
