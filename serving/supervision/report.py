"""What ``make status`` says of the parts: whether they run, answer, and are looked after."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from serving.processes import tail
from serving.settings import Settings
from serving.supervision.companion import Companion
from serving.supervision.supervisor import WATCHER, State, Supervisor, SupervisorError

OLD_BEAT = 30.0  # s; a watcher that looks at hung parts takes some


@dataclass(frozen=True)
class Part:
    """What a part does, in words.

    Attributes:
        name: of the part.
        told: what it does.
        good: whether that is as it should be.
    """

    name: str
    told: str
    good: bool


def parts(settings: Settings, names: Sequence[str], companions: Sequence[Companion]) -> list[Part]:
    """Return what the parts of serving do: supervisor, watcher, and those of a host.

    Args:
        names: of the host's own parts.
        companions: what runs beside it.
    """
    try:
        supervised = {state.name for state in Supervisor(settings).states()}
    except SupervisorError as error:
        return [Part("supervisor", str(error), False)]
    if not supervised:
        return [Part("supervisor", "does not run, so that nothing is started anew: `make up` starts it", False)]
    own = [part(settings, name) for name in names]
    return [_watcher(settings), *own, *(_companion(settings, companion) for companion in companions)]


def part(settings: Settings, name: str) -> Part:
    """Return what one part does."""
    try:
        state = Supervisor(settings).state(name)
    except SupervisorError as error:
        return Part(name, str(error), False)
    if state is None:
        return Part(name, "does not run: `make up` starts it", False)
    return Part(name, _told(settings, state), state.state in ("RUNNING", "STARTING"))


def _companion(settings: Settings, companion: Companion) -> Part:
    found = part(settings, companion.name)
    if found.good and not companion.answers():
        return Part(companion.name, f"{found.told}, but does not answer", False)
    return found


def _watcher(settings: Settings) -> Part:
    found, age = part(settings, WATCHER), Supervisor(settings).beat_age()
    if found.good and (age is None or age > OLD_BEAT):
        return Part(WATCHER, f"{found.told}, but has not looked for {age or 0:.0f} s: kill it", False)
    return found


def _told(settings: Settings, state: State) -> str:
    if state.state in ("RUNNING", "STARTING"):
        return f"runs for {max(0.0, time.time() - state.since):.0f} s, process {state.pid}"
    log = settings.run_dir / f"{state.name}.log"
    words = {"BACKOFF": "ended, and is tried again", "FATAL": "given up after several attempts: `make up` tries again"}
    last = tail(log, 1)
    return f"{words.get(state.state, state.state.lower())} ({state.why or 'no reason given'}). {log} ends: {last}"
