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
from filelock import FileLock

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

    The variables are those of its environment beside the settings and what the starting process has.
    """

    name: str
    command: Sequence[str]
    url: str
    variables: Mapping[str, str] = MappingProxyType({})


class Supervisor:
    """The supervisor of a run folder.

    Args:
        settings: name the folder.
        foreground: whether it is the first process of a container. The run folder may then be a volume, so its own
            files, which hold secrets of the environment, lie in the temporary folder.
    """

    def __init__(self, settings: Settings, foreground: bool = False) -> None:
        self._settings, self._foreground = settings, foreground
        self.folder = (settings.temporary if foreground else settings.run_dir.resolve()) / "supervisor"
        self.log = settings.run_dir / "supervisor.log"
        self._config = self.folder / "supervisord.ini"
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
            self.write_part(name, command, log, url, variables)
            if state is None:
                self._call("reloadConfig")
                self._call("addProcessGroup", name)
            self._call("startProcess", name, False)
            return True

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

    def beat_age(self) -> float | None:
        """Return the seconds since the watcher last looked; None if it never did."""
        with contextlib.suppress(FileNotFoundError):
            return time.time() - (self.folder / BEAT).stat().st_mtime
        return None

    def find(self) -> psutil.Process | None:
        """Return its process; None if there is none."""
        mark = str(self._config)
        supervisors = (process for process, line in commands() if "supervisor.supervisord" in line and mark in line)
        return next((process for process in supervisors if runs(process)), None)

    def become(self, programs: Sequence[Program], farewell: Sequence[str] = ()) -> None:
        """Replace this process by a supervisor of these parts, whose output is its own: for containers.

        It ends, and with it the container, when a part is given up.

        Args:
            farewell: a command that is run before the parts are asked to end.
        """
        self._make_folders()
        for program in programs:
            self.write_part(program.name, program.command, None, program.url, program.variables)
        self._write_config(farewell)
        supervisord = self._command()
        os.execve(supervisord[0], supervisord, environment(self._settings, {}))

    def shut_down(self) -> None:
        """Ask it to end with all its parts, without waiting; one of these may call it."""
        self._call("shutdown")

    def write_part(
        self, name: str, command: Sequence[str], log: Path | None, url: str, variables: Mapping[str, str]
    ) -> None:
        """Write the files of a part, for supervisord and for ``serving/supervision/part.py``."""
        file = self.folder / f"{name}.json"
        environ = environment(self._settings, variables)
        content = {"command": list(command), "folder": str(ROOT), "environment": environ, "url": url}
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
        return [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._config)]

    def _make_folders(self) -> None:
        for folder in (self._settings.temporary, self.folder):
            make_private(folder)

    def _write_config(self, farewell: Sequence[str] = ()) -> None:
        foreground = self._foreground
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
                "pidfile": self.folder / "supervisor.pid",  # deploy/marloop.service names it
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
        self._config.write_text(text)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        make_run_folder(self._settings.run_dir)
        with FileLock(self._settings.run_dir / "supervisor.lock"):
            yield


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
