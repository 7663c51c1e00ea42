"""``python -m serving.supervision.watcher``: kills a part that runs but hangs, so that its supervisor starts it anew.

A part is asked for a page that needs no worker and no database. Any answer will do; one that is late counts as none.
A part without an address is not asked. One hangs if it answered before and has not for ``SILENCE`` seconds; one that
starts has more time. A busy machine ends no part. Seconds in which this process did not get to run do not count, nor
those in which the part waited for a core, as Linux counts them (``/proc/PID/task/TID/schedstat``).
"""

import argparse
import contextlib
import http.client
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from serving.processes import kill
from serving.settings import Settings
from serving.supervision.supervisor import BEAT, WATCHER, SocketConnection, State, Supervisor, SupervisorError

logger = logging.getLogger("watcher")
INTERVAL = 1.0  # s
PATIENCE = 4.0  # s until an answer is given up
SILENCE = 8.5  # s; two questions fit in, and within 15 s a part is ended and back
FAILURES = 2
STARTING = 120.0  # s that a part has until its first answer
LATE = 2.0  # s beyond the pause between two looks, or beyond PATIENCE, that this process did not run


@dataclass(frozen=True)
class Life:
    """History of a running part.

    Attributes:
        heard: clock's time of its last answer, or of the first look at it.
        failures: unanswered questions since then.
        started: whether it has ever answered.
        delays: s that each of its threads had waited for a core at the first of these failures, by thread id.
    """

    pid: int
    heard: float
    failures: int = 0
    started: bool = False
    delays: Mapping[int, float] = field(default_factory=dict)

    def hangs(self, now: float, delays: Mapping[int, float]) -> bool:
        """Tell whether it is silent for too long, less the longest time that one of its threads waited for a core."""
        silence = now - self.heard
        if self.failures < FAILURES or not self.started:
            return self.failures >= FAILURES and silence > STARTING
        waited = max((delay - self.delays.get(thread, 0.0) for thread, delay in delays.items()), default=0.0)
        return silence - waited > SILENCE or silence > STARTING


class Watch:
    """Looks at the parts of a supervisor.

    Args:
        ask: returns whether a URL answers.
        clock: a monotonic clock in s.
        delays: returns the s that each thread of a process has waited for a core.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        ask: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
        delays: Callable[[int], Mapping[int, float]] | None = None,
    ) -> None:
        self._supervisor, self._ask, self._clock = supervisor, ask, clock
        self._delays = delays or scheduling_delays
        self._lives: dict[str, Life] = {}
        self._looked = clock()

    def look(self) -> list[str]:
        """Ask every part once, kill those that hang, and return their names."""
        states = {state.name: state for state in self._supervisor.states() if state.pid and state.name != WATCHER}
        urls = {name: url for name, url in self._supervisor.parts().items() if name in states and url}
        begun = self._clock()
        self._excuse(begun - self._looked - INTERVAL)
        with ThreadPoolExecutor(max(1, len(urls))) as threads:
            answers = dict(zip(urls, threads.map(self._ask, urls.values()), strict=True))
        now = self._looked = self._clock()
        self._excuse(now - begun - PATIENCE)
        self._lives = {name: self._life(states[name], answered, now) for name, answered in answers.items()}
        hung = [name for name, life in self._lives.items() if life.failures and life.hangs(now, self._delays(life.pid))]
        for name in hung:
            logger.warning("%s has not answered for %.0f s: killed", name, now - self._lives[name].heard)
            _kill_family(states[name].pid)
        return hung

    def _life(self, state: State, answered: bool, now: float) -> Life:
        life = self._lives.get(state.name)
        if life is None or life.pid != state.pid:
            life = Life(state.pid, now)
        if answered:
            return Life(state.pid, now, started=True)
        delays = life.delays if life.failures else self._delays(state.pid)
        return replace(life, failures=life.failures + 1, delays=delays)

    def _excuse(self, late: float) -> None:
        """Subtract seconds in which this process did not run from every silence, and count failures anew."""
        if late > LATE:
            lives = self._lives.items()
            self._lives = {name: replace(life, heard=life.heard + late, failures=0) for name, life in lives}


def answers(url: str, patience: float = PATIENCE) -> bool:
    """Tell whether a URL answers in time, with any status; ``unix:/path`` is a socket that is asked for ``/ping``."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        connection: http.client.HTTPConnection = SocketConnection(Path(parts.path), patience)
        path = "/ping"
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=patience)
        path = parts.path or "/"
    try:
        connection.request("GET", path)
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def watch_forever(supervisor: Supervisor, end_with_parts: bool) -> None:
    """Look every second as long as the supervisor lives, whose child this process is, and touch a file at each look.

    Args:
        end_with_parts: whether the supervisor ends when a vital part is given up, so that its caller can start it anew.
    """
    parent, process = os.getppid(), supervisor.find()
    if process is None or process.pid != parent:  # it was killed while this process started, and left it to another
        return
    watch = Watch(supervisor, answers)
    while os.getppid() == parent:
        try:
            watch.look()
            if end_with_parts and any(
                state.state == "FATAL" and supervisor.is_vital(state.name) for state in supervisor.states()
            ):
                logger.warning("a part was given up: the supervisor ends")
                supervisor.shut_down()
        except SupervisorError as error:
            logger.warning("%s", error)
        (supervisor.folder / BEAT).touch()
        time.sleep(INTERVAL)


def scheduling_delays(pid: int) -> dict[int, float]:
    """Return the seconds that each thread of a process has waited for a core; empty on a system without schedstat."""
    delays: dict[int, float] = {}
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has ended
            delays[int(path.parent.name)] = int(path.read_text().split()[1]) / 1e9
    return delays


def _kill_family(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        kill([process, *process.children(recursive=True)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", required=True, help="folder of the run")
    parser.add_argument("--end-with-parts", action="store_true", help="end the supervisor when a part is given up")
    parser.add_argument("--farewell", default="", help="command that is run when the supervisor is asked to end")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s")
    settings = Settings.from_environment({**os.environ, "MARLOOP_RUN_DIR": arguments.run_dir})
    if arguments.farewell:  # the supervisor ends this process first, and waits for it
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    try:
        watch_forever(Supervisor(settings, arguments.end_with_parts), arguments.end_with_parts)
    except SystemExit:
        subprocess.run(shlex.split(arguments.farewell))
