"""A copy of the whole service on free ports, with all its files in one folder."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from filelock import FileLock, Timeout

from monitoring.replay import accelerated
from serving import processes
from serving.command_line import ENV_FILE, OFF
from serving.hosts.host import TIMEOUT
from serving.hosts.torchserve import background
from serving.hosts.torchserve.management import Management
from serving.ports import free_ports
from serving.processes import commands, end, tail
from serving.registry import Registry
from serving.settings import ROOT, Settings, on_free_ports
from serving.supervision.companion import Companion, exporter
from serving.supervision.supervisor import Supervisor

MARK = ".replay"  # file that marks a replay's folder, which may be emptied
FROZEN = "-frozen"  # suffix of the model's name for its first version, which is never retrained
OURS = ("MARLOOP_", "CAPTURE_URL", "DATABASE_URL")  # beginnings of the variables that a copy must not share
PROGRAMS = {"prometheus": ("prometheus",), "alertmanager": ("prometheus-alertmanager", "alertmanager")}  # commands
PACKAGES = "Debian has them in the packages prometheus and prometheus-alertmanager"


class ReplayError(Exception):
    """The replay cannot go on; the message says why."""


class Program(Companion):
    """A third-party program in the background; its command is complete, and the first argument names our folder."""

    def find(self, settings: Settings) -> psutil.Process | None:
        """Return its process for this folder, whatever its port is."""
        return next((process for process, command in commands() if self.command[1] in command), None)

    def arguments(self, settings: Settings) -> list[str]:
        """Return its command line."""
        return list(self.command)


@dataclass(frozen=True)
class Stack:
    """The running copy; ``prometheus`` and ``alertmanager`` are URLs."""

    settings: Settings
    model: str
    prometheus: str
    alertmanager: str

    @property
    def frozen(self) -> str:
        """Return the name under which the model's first version is served too."""
        return self.model + FROZEN

    def champion(self) -> str:
        """Return the number of the version that is served on the loop."""
        return Registry(self.settings.model_store).champion(self.model).number


def find_programs() -> dict[str, str]:
    """Return the paths of Prometheus and Alertmanager by name.

    Raises:
        ReplayError: one is not installed.
    """
    paths = {name: next(filter(None, map(shutil.which, commands)), None) for name, commands in PROGRAMS.items()}
    if missing := [name for name, path in paths.items() if path is None]:
        raise ReplayError(f"{missing[0]} is not installed; {PACKAGES}")
    return {name: path for name, path in paths.items() if path}


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other replays out of a folder.

    Raises:
        ReplayError: another replay holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock", timeout=0):
            yield
    except Timeout:
        raise ReplayError(f"another replay is under way in {folder}: name another --folder") from None


def prepare(folder: Path) -> None:
    """Make the folder, or empty that of an earlier replay, whose leftover processes are stopped first.

    Raises:
        ReplayError: it holds something else.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise ReplayError(f"{folder} holds something that is no replay's: name another --folder")
    _stop_leftovers(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


def environment(environ: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a copy, without the settings of the service beside it."""
    own = {ENV_FILE: OFF}  # ``.env`` has the settings of the service beside it
    return {name: value for name, value in environ.items() if not name.startswith(OURS)} | own | dict(settings)


def train(model: str, folder: Path, cache: Path) -> None:
    """Train the first version as a user does.

    Raises:
        ReplayError: it failed.
    """
    log = folder / "train.log"
    command = [sys.executable, "-m", "training", "train", model, "--store", str(folder / "store")]
    command += ["--runs", str(folder / "runs"), "--cache", str(cache)]
    with processes.running(command, os.environ, log, ROOT) as training:
        code = training.wait()
    if code != 0:
        raise ReplayError(f"{model} could not be trained. The end of {log}:\n{tail(log)}")


@contextlib.contextmanager
def running(
    model: str,
    folder: Path,
    programs: Mapping[str, str],
    monitor_of: Callable[[Settings], Companion],
    say: Callable[[str], None],
) -> Iterator[Stack]:
    """Start all programs, and stop them whatever happens.

    Args:
        model: must have a champion in the folder's store.
        folder: made by ``prepare``.
        programs: paths of Prometheus and Alertmanager.
        monitor_of: makes the monitor of some settings.

    Raises:
        CompanionError, LaunchError, ManagementError, SupervisorError: a program does not start.
    """
    settings = on_free_ports(folder / "store", folder / "run")
    ports = dict(zip(programs, free_ports(len(programs)), strict=True))
    addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    with contextlib.ExitStack() as stack:
        stack.callback(background.stop, settings)
        background.start(settings, say=say)
        for companion in (
            exporter(settings),
            monitor_of(settings),
            *_watchers(folder, settings, programs, addresses),
        ):
            stack.callback(companion.stop, settings)
            companion.start(settings)
            say(f"started the {companion.name}")
        urls = {name: f"http://{address}" for name, address in addresses.items()}
        running = Stack(settings, model, **urls)
        with httpx.Client(timeout=TIMEOUT, trust_env=False) as client:
            champion = Registry(settings.model_store).champion(model).version
            Management(settings.management_address, client).register(champion.archive, running.frozen)
        yield running


def _watchers(
    folder: Path, settings: Settings, programs: Mapping[str, str], addresses: Mapping[str, str]
) -> Iterator[Program]:
    """Yield Alertmanager, then Prometheus, with accelerated copies of their configuration."""
    data = folder / "alertmanager"
    config = accelerated.write_alertmanager(data, settings.monitor_url)
    options = (f"--storage.path={data / 'data'}", "--cluster.listen-address=", "--log.level=warn")
    yield _watcher("alertmanager", programs, addresses, config, *options)
    private, monitor = settings.private_address, settings.monitor_url.removeprefix("http://")
    targets = {
        "torchserve": f"{private}:{settings.metrics_port}",
        "exporter": f"{private}:{settings.exporter_port}",
        "monitor": monitor,
        **addresses,
    }
    data = folder / "prometheus"
    config = accelerated.write_prometheus(data, targets)
    yield _watcher(
        "prometheus", programs, addresses, config, f"--storage.tsdb.path={data / 'data'}", "--log.level=warn"
    )


def _watcher(
    name: str, programs: Mapping[str, str], addresses: Mapping[str, str], config: Path, *options: str
) -> Program:
    listen = f"--web.listen-address={addresses[name]}"
    command = (programs[name], f"--config.file={config}", *options, listen)
    return Program(name, command, f"http://{addresses[name]}/-/ready")


def _stop_leftovers(folder: Path) -> None:
    """End the processes that a killed replay in this folder left."""
    settings = Settings(model_store=folder / "store", run_dir=folder / "run")
    Supervisor(settings).end()  # else it would restart the programs that are ended here
    background.stop(settings)
    end([process for process, command in commands() if _is_left(command, folder)])


def _is_left(command: list[str], folder: Path) -> bool:
    """Return whether a process was started by a replay in this folder, which its options name."""
    ours = command[1:2] == ["-m"] and command[2:3] in (["serving"], ["training"], ["monitoring"])
    if ours and "replay" not in command:
        return any(part.startswith(f"{folder}{os.sep}") for part in command)
    return any(part.startswith(f"--config.file={folder}{os.sep}") for part in command)
