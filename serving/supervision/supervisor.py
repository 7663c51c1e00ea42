"""The supervisor of one run: supervisord, which starts its parts anew when they end, and rotates their logs.

One runs for each run folder that has parts. A part that ends within ``SETTLED`` seconds is started again after 1, 2, 3,
… seconds, and given up after ``TRIES`` times. One that ends later is started again at once. A watcher of ours runs
beside the parts and kills those that run but do not answer (``serving/supervision/watcher.py``).
"""

import contextlib
import http.client
import json
import os
import shlex
import socket
import sys
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import psutil
from filelock import FileLock, Timeout

from serving.processes import commands, end, environment, kill, left_of, runs, spawn, tail
from serving.security.folders import make_private, make_run_folder
from serving.settings import ROOT, Settings

SETTLED = 15  # s that a part must run until it counts as started
TRIES = 5
START_TIMEOUT = 30.0  # s for supervisord itself
ANSWER_TIMEOUT = 40.0  # s for one of its answers, which may wait until a part has ended
GRACE = 10  # s that a part has to end when it is asked to
FAREWELL = 20  # s that the watcher has, which runs a command before the parts end
LOG_BYTES, LOGS = "10MB", 3  # of each part, the rotated ones beside
WATCHER = "watcher"
BEAT = "watcher.beat"  # a file whose time is when the watcher last looked


class SupervisorError(Exception):
    """The supervisor cannot be started or does not answer; the message says more."""


@dataclass(frozen=True)
class State:
    """State of a part.

    Attributes:
        state: RUNNING, STARTING, BACKOFF (between two attempts), FATAL (given up), STOPPING, STOPPED or EXITED.
        pid: 0 if it does not run.
        since: time of its last start, s since the epoch.
        why: reason why the last attempt failed; empty if it did not.
    """

    name: str
    state: str
    pid: int
    since: float
    why: str

    @property
    def alive(self) -> bool:
        """Whether it runs, or will run without help."""
        return self.state in ("RUNNING", "STARTING", "BACKOFF")


class Program(NamedTuple):
    """A part as it is started: its name, its command, the URL by which it is known to be alive, and variables.

    The variables are those of its environment beside the settings and what the starting process has. A container does
    not end where a part that is not vital is given up.
    """

    name: str
    command: Sequence[str]
    url: str
    variables: Mapping[str, str] = MappingProxyType({})
    vital: bool = True


class Supervisor:
    """The supervisor of a run folder.

    Args:
        settings: name the folder.
        foreground: whether it is the first process of a container. The run folder may then be a volume, so its own
            files, which hold secrets of the environment, lie in the temporary folder.
    """

    def __init__(self, settings: Settings, foreground: bool = False) -> None:
        self._settings, self.foreground = settings, foreground
        self.folder = (settings.temporary if foreground else settings.run_dir.resolve()) / "supervisor"
        self.log = settings.run_dir / "supervisor.log"
        self.config = self.folder / "supervisord.ini"
        self._pid_file = self.folder / "supervisor.pid"  # deploy/marloop.service names it
        self._socket = settings.temporary / "ctl"  # short, as a socket's path must be

    def start(self, name: str, command: Sequence[str], log: Path, url: str, variables: Mapping[str, str]) -> bool:
        """Start a part unless it runs.

        Args:
            command: the program, with its path, and its arguments.
            log: file of its output.
            url: answers with any status as long as the part does not hang.
            variables: added to its environment, which has the settings and this process's variables.

        Returns:
            Whether it was started now.

        Raises:
            SupervisorError: there is no supervisor, and none can be started.
        """
        with self._alone():
            self._ensure()
            state = self.state(name)
            if state and state.alive:
                return False
            self._begin(Program(name, command, url), log, environment(self._settings, variables))
            return True

    def join(self, program: Program, log: Path, like: str) -> None:
        """Start a part unless it runs, with the environment of one that runs; one of the parts calls it.

        Args:
            like: name of that other part; where it was asked to end, nothing is started any more.

        Raises:
            SupervisorError: it does not answer, or another process changes its parts now.
        """
        with self._alone(patience=0):
            file = self.folder / f"{like}.json"
            state = self.state(program.name)
            if file.exists() and not (state and state.alive):
                environ = json.loads(file.read_bytes())["environment"]
                self._begin(program, None if self.foreground else log, environ)

    def stop(self, *names: str) -> None:
        """End parts at once and forget them, missing ones too; the supervisor ends with the last one."""
        with self._alone():
            if self.find() is None:
                for name in names:
                    self._forget(name)
                return
            try:
                for name in names:  # all are asked before one is waited for
                    with contextlib.suppress(SupervisorError):
                        self._call("stopProcess", name, False)
                for name in names:
                    self._remove(name)
                if not self.parts():
                    self._shut_down()
            except SupervisorError:  # it hangs: the caller looks for the processes that are left
                self._kill()

    def end(self) -> None:
        """End it with all its parts, in whatever state they are."""
        with self._alone():
            if self.find() is not None:
                try:
                    self._shut_down()
                except SupervisorError:
                    self._kill()
            for name in self.parts():
                self._forget(name)

    def states(self) -> list[State]:
        """Return the states of its parts and of the watcher; empty where no supervisor runs.

        Raises:
            SupervisorError: it does not answer.
        """
        try:
            return [_state(info) for info in cast("list[dict[str, Any]]", self._call("getAllProcessInfo"))]
        except SupervisorError:
            if self.find() is None:
                return []
            raise

    def state(self, name: str) -> State | None:
        """Return the state of a part; None if there is no such part."""
        return next((state for state in self.states() if state.name == name), None)

    def parts(self) -> dict[str, str]:
        """Return the parts that were started and not stopped, each with the URL that shows that it is alive."""
        files = sorted(self.folder.glob("*.json"))
        return {file.stem: str(json.loads(file.read_bytes())["url"]) for file in files}

    def is_vital(self, name: str) -> bool:
        """Tell whether a container ends when this part is given up; the watcher is such a part too."""
        try:
            return bool(json.loads((self.folder / f"{name}.json").read_bytes()).get("vital", True))
        except FileNotFoundError:
            return True

    def beat_age(self) -> float | None:
        """Return the seconds since the watcher last looked; None if it never did."""
        with contextlib.suppress(FileNotFoundError):
            return time.time() - (self.folder / BEAT).stat().st_mtime
        return None

    def find(self) -> psutil.Process | None:
        """Return its process; None if there is none."""
        mark = str(self.config)
        supervisors = (process for process, line in commands() if "supervisor.supervisord" in line and mark in line)
        found = next((process for process in supervisors if runs(process)), None)
        return None if found and self._was_killed() else found

    def _was_killed(self) -> bool:
        """Tell whether it ended without a word; a part that it was just starting still has its command line."""
        try:
            return not runs(psutil.Process(int(self._pid_file.read_text())))
        except psutil.NoSuchProcess:
            return True
        except (OSError, ValueError):  # it is starting
            return False

    def become(self, programs: Sequence[Program], farewell: Sequence[str] = ()) -> None:
        """Replace this process by a supervisor of these parts, whose output is its own: for containers.

        It ends, and with it the container, when a part is given up.

        Args:
            farewell: a command that is run before the parts are asked to end.
        """
        self._make_folders()
        for program in programs:
            self._write_part(program, None, environment(self._settings, program.variables))
        self._write_config(farewell)
        supervisord = self._command()
        os.execve(supervisord[0], supervisord, environment(self._settings, {}))

    def shut_down(self) -> None:
        """Ask it to end with all its parts, without waiting; one of these may call it."""
        self._call("shutdown")

    def _begin(self, program: Program, log: Path | None, environ: Mapping[str, str]) -> None:
        """Start a part that does not run."""
        name = program.name
        self._write_part(program, log, environ)
        if self.state(name) is None:
            self._call("reloadConfig")
            self._call("addProcessGroup", name)
        if not ((state := self.state(name)) and state.alive):  # a container's part starts when it is added
            self._call("startProcess", name, False)

    def _write_part(self, program: Program, log: Path | None, environ: Mapping[str, str]) -> None:
        """Write the files of a part, for supervisord and for ``serving/supervision/part.py``."""
        name, command, url, _, vital = program
        file = self.folder / f"{name}.json"
        content = {"command": [*command], "folder": str(ROOT), "environment": environ, "url": url, "vital": vital}
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(content, stream)
        become = [sys.executable, "-I", str(ROOT / "serving" / "supervision" / "part.py"), str(file)]
        (self.folder / f"{name}.conf").write_text(_program(name, become, log))

    def _ensure(self) -> None:
        """Start supervisord unless it runs; parts that a killed one left are the caller's to end."""
        if self.find() is not None:
            return
        self._make_folders()
        for name in self.parts():
            self._forget(name)
        self._write_config()
        process = spawn(self._command(), self.log, self._settings)
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            with contextlib.suppress(SupervisorError):
                self._call("getState")
                return
            if not runs(process) or time.monotonic() > deadline:
                kill([process])
                raise SupervisorError(f"the supervisor does not start. The end of {self.log}:\n{tail(self.log)}")
            time.sleep(0.05)

    def _kill(self) -> None:
        """Kill it with its parts: nobody else would find a part that is about to become Java."""
        if process := self.find():
            kill([process, *process.children(recursive=True)])

    def _remove(self, name: str) -> None:
        if self.state(name):
            with contextlib.suppress(SupervisorError):  # it does not run, or was asked to end before
                self._call("stopProcess", name)
            deadline = time.monotonic() + ANSWER_TIMEOUT
            while (state := self.state(name)) and state.state == "STOPPING" and time.monotonic() < deadline:
                time.sleep(0.05)
            self._call("removeProcessGroup", name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        for suffix in ("json", "conf"):
            (self.folder / f"{name}.{suffix}").unlink(missing_ok=True)

    def _shut_down(self) -> None:
        process = self.find()
        self._call("shutdown")
        if process:
            end(left_of([process], GRACE))

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            with xmlrpc.client.ServerProxy("http://supervisor", transport=_Transport(self._socket)) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as error:
            raise SupervisorError(f"{method}: {error.faultString}") from error
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise SupervisorError(f"the supervisor does not answer ({method}): {error}") from error

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.config)]

    def _make_folders(self) -> None:
        for folder in (self._settings.temporary, self.folder):
            make_private(folder)
        self._pid_file.unlink(missing_ok=True)  # of one that was killed

    def _write_config(self, farewell: Sequence[str] = ()) -> None:
        foreground = self.foreground
        watcher = [
            sys.executable,
            "-m",
            "serving.supervision.watcher",
            "--run-dir",
            str(self._settings.run_dir.resolve()),
        ]
        watcher += ["--end-with-parts"] if foreground else []
        watcher += ["--farewell", shlex.join(farewell)] if farewell else []
        mask = os.umask(0o077)
        os.umask(mask)
        sections: dict[str, dict[str, object]] = {
            "supervisord": {
                "nodaemon": "true",  # its session is its own already
                "silent": "true",
                "logfile": "/dev/null" if foreground else self.log,
                "logfile_maxbytes": "0" if foreground else "1MB",
                "logfile_backups": "2",
                "pidfile": self._pid_file,
                "umask": f"{mask:03o}",
                "directory": ROOT,
                "nocleanup": "true",
                **({"user": "root"} if os.getuid() == 0 else {}),  # it warns where no user is set
            },
            "unix_http_server": {"file": self._socket, "chmod": "0600"},
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
            "include": {"files": "*.conf"},
        }
        log = None if foreground else self._settings.run_dir / f"{WATCHER}.log"
        # The part with the highest priority number ends first.
        last = {"autostart": "true", "priority": 1000, "stopwaitsecs": FAREWELL}
        text = _sections(sections) + _program(WATCHER, watcher, log, last)
        self.config.write_bytes(os.fsencode(text))  # it holds paths

    @contextlib.contextmanager
    def _alone(self, patience: float = -1) -> Iterator[None]:
        """Let no other process change the parts meanwhile.

        Args:
            patience: s that another one may take; negative for any time.
        """
        make_run_folder(self._settings.run_dir)
        try:
            held = FileLock(self._settings.run_dir / "supervisor.lock").acquire(patience)
        except Timeout as error:
            raise SupervisorError("another process changes its parts") from error
        with held:
            yield


def supervisor_of(settings: Settings) -> Supervisor:
    """Return the supervisor of a run: the one in the foreground where that runs, as in a container."""
    container = Supervisor(settings, foreground=True)
    return container if container.config.exists() and container.find() else Supervisor(settings)


def supervisor_of_this(settings: Settings) -> Supervisor | None:
    """Return the supervisor whose child this process is; None if it has none."""
    line = psutil.Process(os.getppid()).cmdline()
    supervisors = (Supervisor(settings), Supervisor(settings, foreground=True))
    return next((supervisor for supervisor in supervisors if str(supervisor.config) in line), None)


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """Return a connection to the socket; the host is ignored."""
        connection = SocketConnection(self._path, ANSWER_TIMEOUT)
        self._connection = (host, connection)  # the base class closes it
        return connection


def _state(info: Mapping[str, Any]) -> State:
    why = str(info["spawnerr"]) if info["statename"] in ("BACKOFF", "FATAL", "EXITED") else ""
    return State(str(info["name"]), str(info["statename"]), int(info["pid"]), float(info["start"]), why)


def _program(
    name: str, command: Sequence[str], log: Path | None, changes: Mapping[str, object] = MappingProxyType({})
) -> str:
    settings: dict[str, object] = {
        "command": shlex.join(command),
        "autostart": "true" if log is None else "false",
        "autorestart": "true",
        "startsecs": SETTLED,
        "startretries": TRIES,
        "stopwaitsecs": GRACE,
        "killasgroup": "true",
        "priority": 100,
        "redirect_stderr": "true",
        "stdout_logfile": "/dev/fd/1" if log is None else _escaped(log.resolve()),  # it is read twice
        "stdout_logfile_maxbytes": 0 if log is None else LOG_BYTES,
        "stdout_logfile_backups": LOGS,
    }
    return _sections({f"program:{name}": settings | dict(changes)})


def _sections(sections: Mapping[str, Mapping[str, object]]) -> str:
    lines = []
    for section, settings in sections.items():
        lines += [f"[{section}]", *(f"{name}={_escaped(value)}" for name, value in settings.items()), ""]
    return "\n".join(lines) + "\n"


def _escaped(value: object) -> str:
    return str(value).replace("%", "%%")
