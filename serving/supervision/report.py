"""State of the parts for ``make status``: whether they run, answer, and are supervised."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from serving.processes import tail
from serving.settings import Settings
from serving.supervision.companion import Companion
from serving.supervision.supervisor import WATCHER, State, SupervisorError, supervisor_of

OLD_BEAT = 30.0  # s; a watcher that looks at hung parts takes some


@dataclass(frozen=True)
class Part:
    """State of a part in words.

    Attributes:
        good: whether it is as it should be.
    """

    name: str
    summary: str
    good: bool


def parts(settings: Settings, names: Sequence[str], companions: Sequence[Companion]) -> list[Part]:
    """Return the state of the supervisor, or of the watcher, a host's own parts and its companions.

    In a container, companions are in others: only those are told of that its supervisor has.

    Args:
        names: those of the host's own parts.
    """
    supervisor = supervisor_of(settings)
    try:
        supervised = {state.name for state in supervisor.states()}
    except SupervisorError as error:
        return [Part("supervisor", str(error), False)]
    if not supervised:
        return [Part("supervisor", "does not run, so that nothing is started anew: `make up` starts it", False)]
    own = [part(settings, name) for name in names]
    beside = [companion for companion in companions if not supervisor.foreground or companion.name in supervised]
    return [_watcher(settings), *own, *(_companion(settings, companion) for companion in beside)]


def part(settings: Settings, name: str) -> Part:
    """Return the state of a part."""
    try:
        state = supervisor_of(settings).state(name)
    except SupervisorError as error:
        return Part(name, str(error), False)
    if state is None:
        return Part(name, "does not run: `make up` starts it", False)
    return Part(name, _summary(settings, state), state.state in ("RUNNING", "STARTING"))


def _companion(settings: Settings, companion: Companion) -> Part:
    state = part(settings, companion.name)
    if state.good and not companion.answers():
        return Part(companion.name, f"{state.summary}, but does not answer", False)
    return state


def _watcher(settings: Settings) -> Part:
    state, age = part(settings, WATCHER), supervisor_of(settings).beat_age()
    if state.good and (age is None or age > OLD_BEAT):
        return Part(WATCHER, f"{state.summary}, but has not looked for {age or 0:.0f} s: kill it", False)
    return state


def _summary(settings: Settings, state: State) -> str:
    if state.state in ("RUNNING", "STARTING"):
        return f"runs for {max(0.0, time.time() - state.since):.0f} s, process {state.pid}"
    log = settings.run_dir / f"{state.name}.log"
    words = {"BACKOFF": "ended, and is tried again", "FATAL": "given up after several attempts: `make up` tries again"}
    said = f"{log} ends: {tail(log, 1)}" if log.is_file() else "the log of the container says more"
    return f"{words.get(state.state, state.state.lower())} ({state.why or 'no reason given'}). {said}"
