"""The direct host in the background: as many workers as cores, each a part of the supervisor."""

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import psutil
from filelock import FileLock

from handlers.engine import available_cores
from serving.hosts.direct.board import Board
from serving.hosts.direct.rollout import DirectRollout
from serving.hosts.direct.unpacked import check_served, is_language
from serving.hosts.host import HERE, LaunchError, Reach, Say
from serving.hosts.starting import (
    START_TIMEOUT,
    capturing,
    check_port,
    empty_metrics,
    measuring,
    verified,
    wait_until_ready,
)
from serving.processes import commands, end, runs, tail
from serving.readiness import Readiness
from serving.registry import ArchiveError, Registry
from serving.security import exposure, house_key
from serving.security.folders import make_private, make_run_folder
from serving.settings import Settings
from serving.store.opening import open_copy, open_registry
from serving.supervision import companion, watcher
from serving.supervision.companion import Companion
from serving.supervision.supervisor import Program, Supervisor, supervisor_of_this
from serving.traces.setup import missing_exporter

TITLE = "the direct host"
MODULE = "serving.hosts.direct.worker"
PREFIX = "direct-"  # begins the name of each part
MOST_WORKERS = 8  # each holds every model


def start(settings: Settings, poll: float = 0.1, say: Say = lambda text: None) -> list[Readiness]:
    """See ``Host``."""
    _check_exposure(settings)
    make_run_folder(settings.run_dir)
    with FileLock(settings.run_dir / "start.lock"):
        registry, supervisor = open_copy(settings), Supervisor(settings)
        refused = verified(registry)[1] | unserved(registry)
        deadline = time.monotonic() + START_TIMEOUT
        began = _start(settings, supervisor, say)

        def check(waiting: str) -> None:
            _check(settings, supervisor, began, deadline, waiting)

        while silent := [name for name in parts(settings) if not watcher.answers(liveness(settings, name))]:
            check(f"{', '.join(silent)} {'does' if len(silent) == 1 else 'do'} not answer")
            time.sleep(poll)
        rollout(settings, say=say).converge()
        return wait_until_ready(settings, refused, check, poll)


def foreground(settings: Settings) -> tuple[list[Program], list[str]]:
    """See ``Host``: each worker answers by itself what it has taken, so that nothing runs before their end."""
    _check_exposure(settings)
    registry = open_copy(settings)
    for name, reason in (verified(registry)[1] | unserved(registry)).items():
        print(f"refused {name}: {reason}", file=sys.stderr, flush=True)  # noqa: T201
    if reason := missing_exporter(os.environ):
        print(reason, file=sys.stderr, flush=True)  # noqa: T201
    _make_ready(settings)
    variables = capturing(settings) | measuring(settings)
    return [program(settings, name)._replace(variables=variables) for name in parts(settings)], []


def program(settings: Settings, name: str) -> Program:
    """Return a worker as a part of a supervisor; a language model's end is no reason to end a container."""
    vital = not name.startswith(language_part(""))
    return Program(name, command(settings, name), liveness(settings, name), vital=vital)


def start_language(settings: Settings, models: Collection[str]) -> None:
    """Start the processes of language models that have none; a worker calls it when it learns of them.

    Raises:
        SupervisorError: it does not answer, or another worker is at it.
    """
    if supervisor := supervisor_of_this(settings):
        for name in map(language_part, sorted(models)):
            supervisor.join(program(settings, name), log(settings, name), f"{PREFIX}1")


def unserved(registry: Registry) -> dict[str, str]:
    """Return why champions are not served on this host, by model."""
    faults = {}
    for name, (_, version) in registry.champions().items():
        try:
            check_served(registry.store / version.archive)
        except ArchiveError as error:
            faults[name] = str(error)
    return faults


def stop(settings: Settings) -> int:
    """See ``Host``: each worker first answers the requests that it has accepted."""
    workers, supervisor = find_workers(settings), Supervisor(settings)
    supervisor.stop(*(name for name in supervisor.parts() if name.startswith(PREFIX)))
    end(find_workers(settings))  # those that no supervisor knows
    if workers and settings.metrics_dir is None:  # ours, in memory
        shutil.rmtree(settings.metrics, ignore_errors=True)
    return len(workers)


def find(settings: Settings) -> psutil.Process | None:
    """See ``Host``."""
    return next(iter(find_workers(settings)), None)


def find_workers(settings: Settings) -> list[psutil.Process]:
    """Return the workers whose command names this run's folder, also those without a supervisor."""
    mark = ["--run-dir", str(settings.run_dir.resolve())]
    return [process for process, command in commands() if MODULE in command and command[-2:] == mark and runs(process)]


def memory(settings: Settings) -> dict[str, float]:
    """See ``Host``: the sum over the workers."""
    return {"workers": sum(worker.memory_info().rss for worker in find_workers(settings)) / 1e6}


def parts(settings: Settings) -> list[str]:
    """See ``Host``: one part a worker, and one a language model."""
    workers = [f"{PREFIX}{number}" for number in range(1, 1 + worker_count())]
    return [*workers, *(language_part(name) for name in language_models(open_copy(settings)))]


def language_models(registry: Registry) -> list[str]:
    """Return the names of the language models with a champion."""
    champions = registry.champions().items()
    return [name for name, (_, version) in champions if is_language(registry.store / version.archive)]


def language_part(model: str) -> str:
    """Return the name of a language model's part."""
    return f"{PREFIX}model-{model}"


def companions(settings: Settings) -> Sequence[Companion]:
    """See ``Host``: the exporter alone, since there is no management port."""
    return [companion.exporter(settings), *companion.mirror_if_shared(settings)]


def rollout(settings: Settings, reach: Reach = HERE, say: Say = lambda text: None) -> DirectRollout:
    """See ``Host``: it works through files in the folders of the run and of the models, so ``reach`` has no effect."""
    return DirectRollout(open_registry(settings), board(settings), say)


def board(settings: Settings) -> Board:
    """Return the board of a run, on which its workers tell each other their state."""
    return Board(settings.board)


def worker_count() -> int:
    """Return how many workers there are: one a core."""
    return max(1, min(available_cores(), MOST_WORKERS))


def socket_path(settings: Settings, name: str) -> Path:
    """Return the socket on which one worker alone answers, as the port is shared by all."""
    return settings.temporary / f"{name}.sock"


def liveness(settings: Settings, name: str) -> str:
    """Return the address at which the watcher asks whether a worker lives."""
    return f"unix:{socket_path(settings, name)}"


def log(settings: Settings, name: str) -> Path:
    """Return the log file of a worker."""
    return settings.run_dir / f"{name}.log"


def command(settings: Settings, name: str) -> list[str]:
    """Return the command line of a worker."""
    options = ["--name", name, "--workers", str(worker_count()), "--run-dir", str(settings.run_dir.resolve())]
    model = name.removeprefix(language_part(""))
    return [sys.executable, "-m", MODULE, *(["--only", model] if model != name else []), *options]


def _start(settings: Settings, supervisor: Supervisor, say: Say) -> list[str]:
    """Start the workers that the supervisor does not have, and return their names."""
    states = {state.name for state in supervisor.states() if state.alive}
    if not states.intersection(parts(settings)):
        if orphans := find_workers(settings):
            say(f"{len(orphans)} workers of the direct host have no supervisor: they are started anew")
            end(orphans)
        _make_ready(settings)
    variables = capturing(settings) | measuring(settings)
    began = [
        name
        for name in parts(settings)
        if supervisor.start(name, command(settings, name), log(settings, name), liveness(settings, name), variables)
    ]
    if began and (reason := missing_exporter(os.environ)):
        say(reason)
    if began:
        say(f"started {len(began)} workers of the direct host, logs {log(settings, f'{PREFIX}N')}")
    return began


def _make_ready(settings: Settings) -> None:
    """Make the folders that workers share, without what workers of an earlier run left there."""
    _check_ports(settings)
    make_private(settings.temporary)
    empty_metrics(settings)
    shutil.rmtree(settings.board, ignore_errors=True)
    house_key.make(settings.board)


def _check_exposure(settings: Settings) -> None:
    """Raise ``LaunchError`` where others than this machine could ask without an API key."""
    if reason := exposure.why_closed(settings):
        raise LaunchError(reason)


def _check_ports(settings: Settings) -> None:
    """Raise if a port cannot be had: workers could share it unnoticed with whoever listens there.

    Raises:
        LaunchError: see above, or the package for gRPC is missing.
    """
    check_port(settings.bind_address, settings.inference_port, "MARLOOP_INFERENCE_PORT")
    if settings.grpc:
        if importlib.util.find_spec("grpc") is None:
            raise LaunchError("MARLOOP_GRPC is on, and grpcio is not installed: pip install -e '.[grpc]'")
        check_port(settings.bind_address, settings.grpc_port, "MARLOOP_GRPC_PORT")


def _check(settings: Settings, supervisor: Supervisor, began: Sequence[str], deadline: float, waiting: str) -> None:
    """Raise ``LaunchError`` if a worker ended, started now or before, or the deadline has passed."""
    states = {state.name: state for state in supervisor.states()}
    for name in parts(settings):
        state, file = states.get(name), log(settings, name)
        if state is None or not state.alive or (name in began and state.state == "BACKOFF"):
            if began:
                supervisor.stop(*began)
            raise LaunchError(f"{name} of the direct host ended. The end of {file}:\n{tail(file)}")
    if time.monotonic() > deadline:
        file = log(settings, parts(settings)[0])
        raise LaunchError(f"not ready after {START_TIMEOUT:.0f} s ({waiting}). The end of {file}:\n{tail(file)}")
