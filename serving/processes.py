"""Processes of ours: found by their command lines, started, and ended."""

import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from serving.settings import ROOT, Settings

STOP_TIMEOUT = 10.0  # s until a process that was asked to end is killed
_TAIL = 64 * 1024  # bytes of a log that its last lines are sought in


def spawn(command: list[str], log: Path, settings: Settings) -> psutil.Process:
    """Start a command in a session of its own: neither Ctrl-C in this terminal nor this process's end is for it.

    Args:
        command: the program and its arguments.
        log: takes what it prints, behind what it has.
        settings: become its environment, beside this process's.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    shell = subprocess.run(
        ["sh", "-c", '"$@" >>"$0" 2>&1 & echo $!', str(log), *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, **settings.to_environment()},
        check=True,
    )
    return psutil.Process(int(shell.stdout))


def commands() -> Iterator[tuple[psutil.Process, list[str]]]:
    """Every process of this machine with its command line."""
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"]:
            yield process, process.info["cmdline"]


def find_frontend(settings: Settings) -> psutil.Process | None:
    """Return the frontend that runs for these settings, told by its temporary folder; None if there is none."""
    mark = f"-Djava.io.tmpdir={settings.temporary}"
    return next((process for process, command in commands() if mark in command and runs(process)), None)


def find_workers(settings: Settings) -> list[psutil.Process]:
    """Return TorchServe's workers of these settings, also such as outlived their frontend."""
    socket = f"{settings.temporary}/"
    return [
        process
        for process, command in commands()
        if "--sock-name" in command and any(part.startswith(socket) for part in command)
    ]


def runs(process: psutil.Process) -> bool:
    """Whether a process has not ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def group_of(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes of a process's group, itself among them; none where it has ended."""
    group = _group(process)
    return [member for member in psutil.process_iter() if _group(member) == group] if group is not None else []


def end(
    processes: Sequence[psutil.Process], mercy: Sequence[psutil.Process] | None = None, grace: float = STOP_TIMEOUT
) -> None:
    """End processes, and wait until they have.

    Args:
        processes: that must end; whoever has not after a while is killed.
        mercy: those of them that are asked to; the others are left to these. Default: all.
        grace: seconds until then.
    """
    for process in processes if mercy is None else mercy:
        _quietly(process.terminate)
    kill(_left(processes, grace))


def kill(processes: Sequence[psutil.Process]) -> None:
    """End processes at once, also such as are stopped, and wait until they have."""
    for process in processes:
        _quietly(process.kill)
    _left(processes, STOP_TIMEOUT)


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _left(processes: Sequence[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until processes have ended; return those that have not. A zombie, whose end nobody noted, has."""
    deadline = time.monotonic() + timeout
    while (left := [process for process in processes if runs(process)]) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.1)
    psutil.wait_procs(processes, timeout=0)  # notes the end of children of this process
    return left


def _group(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def _quietly(action: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        action()


def environment(settings: Settings, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process of ours: this one's, the settings, and over both what is given."""
    return {**os.environ, **settings.to_environment(), **variables}


def limit_files(most: int) -> None:
    """Limit how many files this process and what it becomes may have open, for good: Java raises a soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (least, least))
