"""A server under test: started by one command, stopped with everything that it started."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from serving.processes import runs
from serving.settings import free_ports as free_ports  # a server under test needs some

MARK = "MARLOOP_BENCH"
START_TIMEOUT = 120.0  # s
STOP_TIMEOUT = 3.0
GRACE = 2.0


class StartError(Exception):
    """A server did not come up; the message has the end of its log."""


@contextlib.contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Run a command in a folder, and end it with all its descendants, however they detached themselves.

    The environment carries a mark that descendants inherit; that is how they are found.

    Yields:
        The mark's value.
    """
    mark = uuid.uuid4().hex
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in this terminal is for us, and we end it
        )
    try:
        yield mark
    finally:
        with uninterrupted():
            stop(mark)
            process.wait()


def marked(mark: str) -> list[psutil.Process]:
    """The live processes that carry a mark, and their descendants.

    A process that gives itself a title writes it over the front of its environment, and possibly over the mark: so the
    whole memory of the environment is searched, and descendants count whatever theirs says.
    """
    wanted = f"{MARK}={mark}".encode()
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if wanted in Path(f"/proc/{process.pid}/environ").read_bytes():
                found |= {one.pid: one for one in (process, *process.children(recursive=True))}
    return [process for process in found.values() if runs(process)]


def stop(mark: str) -> None:
    """End all that carry a mark: politely first, and again until there are none."""
    known = _signal(marked(mark), psutil.Process.terminate)
    deadline = time.monotonic() + STOP_TIMEOUT
    while known and time.monotonic() < deadline:
        psutil.wait_procs(known, timeout=0.1)
        known = _still(known, mark)
    while known:  # one may have been starting another
        psutil.wait_procs(_signal(known, psutil.Process.kill), timeout=1)
        known = _still(known, mark)


def memory(mark: str) -> float:
    """Memory of all that carry a mark in MB, pages that several share counted once (proportional set size)."""
    total = 0
    for process in marked(mark):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 1e6


def wait_until(answers: Callable[[], bool], mark: str, log: Path) -> None:
    """Wait until a server answers.

    Raises:
        StartError: it ended, or did not answer in time.
    """
    seen = time.monotonic()
    deadline = seen + START_TIMEOUT
    while not answers():
        # A process that is just becoming another command carries no mark for a moment.
        seen = time.monotonic() if marked(mark) else seen
        gone = time.monotonic() > seen + GRACE
        if gone or time.monotonic() > deadline:
            why = "it ended" if gone else f"no answer after {START_TIMEOUT:.0f} s"
            raise StartError(f"{why}; the end of its log: {log.read_text(errors='replace')[-1500:]}")
        time.sleep(0.1)


def _still(known: list[psutil.Process], mark: str) -> list[psutil.Process]:
    """What lives of the known processes, whose descent may no longer be told, and of all that carry the mark."""
    return list({process.pid: process for process in (*filter(runs, known), *marked(mark))}.values())


def _signal(processes: list[psutil.Process], send: Callable[[psutil.Process], None]) -> list[psutil.Process]:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            send(process)
    return processes


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Give up what takes too long, wherever it hangs; in the main thread only.

    Raises:
        TimeoutError: it was not done in time.
    """

    def give_up(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Finish a clean-up although Ctrl-C is pressed again, SIGTERM comes twice, or time is up; main thread only."""
    ignored = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def quiet_environment() -> dict[str, str]:
    """What every server gets: one thread an operator, and no reports to anybody's makers."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
    }
