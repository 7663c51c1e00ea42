"""Processes of ours: started, waited for, found by their command lines, and ended with all that they started."""

import contextlib
import os
import resource
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from serving.settings import ROOT, Settings

START_TIMEOUT = 120.0  # s until a server that does not answer is given up
STOP_TIMEOUT = 10.0  # s until a process that was asked to end is killed
GRACE = 3.0  # s until a tree that was asked to end is killed
MARK = "MARLOOP_TREE"  # the variable by which the processes of a tree are found
_BECOMING = 2.0  # s that a process may carry no mark, while it becomes another command
_TAIL = 64 * 1024  # bytes at a log's end in which its last lines are looked for


class StartError(Exception):
    """A process ended, or does not answer; the message has the end of its log."""


class Tree:
    """A process and all that it started, however they detached themselves; ``running`` starts one.

    Attributes:
        log: file of their output.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path, talks: bool
    ) -> None:
        self.log, self._mark = log, uuid.uuid4().hex
        pipe = subprocess.PIPE if talks else None
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**environment, MARK: self._mark},
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in this terminal is for us, and we end it
                text=True,
            )

    def processes(self) -> list[psutil.Process]:
        """Return the processes that carry the mark and have not ended, and their descendants."""
        return marked(MARK, self._mark)

    def wait_until(self, answers: Callable[[], bool]) -> None:
        """Wait until a server answers.

        Raises:
            StartError: it ended, or did not answer in time.
        """
        alive = time.monotonic()
        deadline = alive + START_TIMEOUT
        while not answers():
            alive = time.monotonic() if self.processes() else alive
            if time.monotonic() > alive + _BECOMING:
                raise self._error("it ended")
            if time.monotonic() > deadline:
                raise self._error(f"no answer after {START_TIMEOUT:.0f} s")
            time.sleep(0.1)

    def ask(self, line: str) -> str:
        """Write a line to a process that talks, and return the line that it answers.

        Raises:
            StartError: it ended.
        """
        with contextlib.suppress(BrokenPipeError):  # it has ended, as its answer will tell
            print(line, file=self._process.stdin, flush=True)  # noqa: T201
        return self.hear()

    def hear(self) -> str:
        """Wait for a line of a process that talks.

        Raises:
            StartError: it ended.
        """
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise self._error("it ended")
        return line.rstrip("\n")

    def memory(self) -> float:
        """Return the memory of all in MB, pages that several share counted once (proportional set size)."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total / 1e6

    def wait(self) -> int:
        """Wait until the process that was started has ended; return its exit code."""
        return self._process.wait()

    def end(self) -> None:
        """Ask all to end, kill those that do not, and go on until there are none."""
        end(self.processes(), grace=GRACE)
        while survivors := self.processes():  # one may have been starting another
            kill(survivors)
        with contextlib.suppress(BrokenPipeError), self._process:
            pass  # its pipes are closed, and its end is noted

    def _error(self, why: str) -> StartError:
        return StartError(f"{why}; the end of its log: {tail(self.log)[-1500:]}")


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path | None = None, talks: bool = False
) -> Iterator[Tree]:
    """Run a command, and end it with all that it started; in the main thread only.

    Args:
        environment: a mark is added, which descendants inherit and by which they are found.
        log: overwritten with its output.
        folder: its working directory; None: that of its log.
        talks: whether lines are exchanged with it, so that only its errors are logged.
    """
    tree = Tree(command, environment, log, folder or log.parent, talks)
    try:
        yield tree
    finally:
        with uninterrupted():
            tree.end()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back SIGINT, SIGTERM and SIGALRM until the end of the block, for a clean-up; in the main thread only."""
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.signal(number, lambda received, _: held.append(received)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for received in dict.fromkeys(held):
        signal.raise_signal(received)


def spawn(command: list[str], log: Path, settings: Settings) -> psutil.Process:
    """Start a command in a session of its own, so that it outlives Ctrl-C in this terminal and this process.

    Args:
        log: its output is appended.
        settings: added to this process's environment.
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
    """Yield every process of this machine with its command line."""
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"]:
            yield process, process.info["cmdline"]


def marked(variable: str, value: str) -> list[psutil.Process]:
    """Return the processes whose environment has a variable of this value and that have not ended, and descendants.

    A process that sets its title may overwrite the mark in front of its environment. So the whole memory of the
    environment is searched, and descendants count whatever their environment says.
    """
    mark = f"{variable}={value}".encode()
    members: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if mark in Path(f"/proc/{process.pid}/environ").read_bytes():
                members |= {member.pid: member for member in (process, *process.children(recursive=True))}
    return [process for process in members.values() if runs(process)]


def find_frontend(settings: Settings) -> psutil.Process | None:
    """Return the frontend whose command names these settings' temporary folder; None if there is none."""
    mark = f"-Djava.io.tmpdir={settings.temporary}"
    return next((process for process, command in commands() if mark in command and runs(process)), None)


def find_workers(settings: Settings) -> list[psutil.Process]:
    """Return TorchServe's workers of these settings, also those that outlived their frontend."""
    socket = f"{settings.temporary}/"
    return [
        process
        for process, command in commands()
        if "--sock-name" in command and any(part.startswith(socket) for part in command)
    ]


def runs(process: psutil.Process) -> bool:
    """Tell whether a process has not ended."""
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
        processes: those that must end.
        mercy: those of them that are asked to end the others too; None: all are asked.
        grace: s until those that still run are killed.
    """
    for process in processes if mercy is None else mercy:
        _quietly(process.terminate)
    kill(left_of(processes, grace))


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill processes, also stopped ones, and wait until they have ended."""
    for process in processes:
        _quietly(process.kill)
    left_of(processes, STOP_TIMEOUT)


def tail(log: Path, lines: int = 25) -> str:
    """Return the last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def left_of(processes: Sequence[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until processes have ended, and return those that still run; a zombie has ended."""
    deadline = time.monotonic() + timeout
    while (survivors := [process for process in processes if runs(process)]) and time.monotonic() < deadline:
        psutil.wait_procs(survivors, timeout=0.1)
    psutil.wait_procs(processes, timeout=0)  # reaps children of this process
    return survivors


def _group(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def _quietly(action: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        action()


def environment(settings: Settings, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process of ours: this process's, overridden by the settings, then by variables."""
    return {**os.environ, **settings.to_environment(), **variables}


def limit_files(most: int) -> None:
    """Limit the open files of this process and of what it becomes, for good: Java would raise a soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (least, least))
