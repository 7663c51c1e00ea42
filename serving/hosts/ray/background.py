"""The Ray host in the background: a head of Ray, the front before it, and a keeper, each a part of the supervisor."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from filelock import FileLock

from serving.hosts.host import HERE, LaunchError, Reach, Say
from serving.hosts.ray.cluster import ServeApi
from serving.hosts.ray.front import control as front
from serving.hosts.ray.launch import MARK, mark_of
from serving.hosts.ray.rollout import RayRollout
from serving.hosts.ray.settings import Offset, Place, RaySettings
from serving.hosts.starting import capturing, check_port, empty_metrics, measuring, verified, wait_until_ready
from serving.processes import commands, kill, marked, runs, tail
from serving.readiness import Readiness
from serving.security.folders import make_private, make_run_folder
from serving.settings import Settings
from serving.store.opening import open_copy, open_registry
from serving.supervision import companion, watcher
from serving.supervision.companion import Companion
from serving.supervision.supervisor import Program, Supervisor

TITLE = "the Ray host"
HEAD, FRONT, KEEPER = PARTS = ("ray-head", "ray-front", "ray-keeper")
START_TIMEOUT = 300.0  # s; a cluster takes a dozen processes, and half a minute on idle cores
LAUNCH, KEEP = "serving.hosts.ray.launch", "serving.hosts.ray.keeper"
SLOW = "timed out during startup"  # Ray's words of a node that its head did not know in time
REPLICA = "ServeReplica"  # in the title of a replica's process


def start(settings: Settings, poll: float = 0.2, say: Say = lambda text: None) -> list[Readiness]:
    """See ``Host``."""
    check_installed()
    make_run_folder(settings.run_dir)
    with FileLock(settings.run_dir / "start.lock"):
        supervisor, place = Supervisor(settings), Place(settings)
        _, refused = verified(open_copy(settings))
        deadline = time.monotonic() + START_TIMEOUT
        began = _start(settings, supervisor, say)

        def check(waiting: str) -> None:
            _check(settings, supervisor, began, deadline, waiting)

        serve = ServeApi(place.dashboard, place.token)
        while not (serve.lives() and watcher.answers(liveness(settings))):
            check("Ray's head or the front does not answer")
            time.sleep(poll)
        rollout(settings, say=say).converge()
        return wait_until_ready(settings, refused, check, poll)


def foreground(settings: Settings) -> tuple[list[Program], list[str]]:
    """See ``Host``: the keeper deploys the champions once the head answers."""
    check_installed()
    verified(open_copy(settings))
    _make_ready(settings)
    return [program(settings, name) for name in PARTS], []


def program(settings: Settings, name: str) -> Program:
    """Return a part of the supervisor. Ray looks after its own processes, and the keeper answers nobody."""
    variables = measuring(settings) if name == KEEPER else {}  # it counts what the front refuses
    return Program(name, command(settings, name), liveness(settings) if name == FRONT else "", variables)


def command(settings: Settings, name: str) -> list[str]:
    """Return the command line of a part."""
    module = [KEEP] if name == KEEPER else [LAUNCH, name.removeprefix("ray-")]
    return [sys.executable, "-m", *module, "--run-dir", str(settings.run_dir.resolve())]


def stop(settings: Settings) -> int:
    """See ``Host``: the front first answers what it has taken. Ray's processes are found by a mark, and no others end.

    ``ray stop`` would end every Ray of this machine.
    """
    place, processes = Place(settings), find_all(settings)
    if front_process(settings):
        front.drain(place)
    Supervisor(settings).stop(FRONT, KEEPER, HEAD)
    kill(find_all(settings))  # what outlived its head
    if processes:
        if settings.metrics_dir is None:  # ours, in memory
            shutil.rmtree(settings.metrics, ignore_errors=True)
        for folder in (place.folder, place.tables):
            shutil.rmtree(folder, ignore_errors=True)
    return len(processes)


def find(settings: Settings) -> psutil.Process | None:
    """See ``Host``: the head, else the front or the keeper without one."""
    folder = f"--temp-dir={Place(settings).folder}"
    heads = (process for process, line in commands() if "--head" in line and folder in line and runs(process))
    return next(heads, None) or front_process(settings) or _keeper(settings)


def front_process(settings: Settings) -> psutil.Process | None:
    """Return the process of the front; None if it does not run."""
    config = str(Place(settings).front_config)
    return next((process for process, line in commands() if line[-2:] == ["-f", config] and runs(process)), None)


def find_all(settings: Settings) -> list[psutil.Process]:
    """Return every process of this host: those of Ray carry a mark in their environment."""
    beside = [process for process in (front_process(settings), _keeper(settings)) if process]
    return [*beside, *marked(MARK, _mark(settings))]


def replicas(settings: Settings) -> list[psutil.Process]:
    """Return the processes that serve a version."""
    return [process for process in marked(MARK, _mark(settings)) if REPLICA in _title(process)]


def memory(settings: Settings) -> dict[str, float]:
    """See ``Host``: the replicas, and all that Ray needs beside them."""
    every, own = _memory(find_all(settings)), _memory(replicas(settings))
    return {"replicas": own, "Ray": every - own}


def parts(settings: Settings) -> list[str]:
    """See ``Host``."""
    return [*PARTS]


def companions(settings: Settings) -> Sequence[Companion]:
    """See ``Host``: the exporter alone, since there is no management port."""
    return [companion.exporter(settings), *companion.mirror_if_shared(settings)]


def rollout(settings: Settings, reach: Reach = HERE, say: Say = lambda text: None) -> RayRollout:
    """See ``Host``: it works through the head's dashboard, on loopback, so ``reach`` has but the inference port."""
    ray = RaySettings.from_environment(os.environ)
    url = reach.inference_url or settings.inference_url
    place = Place(settings)
    serve = ServeApi(place.dashboard, place.token)
    return RayRollout(open_registry(settings), place, ray, serve, measuring(settings), url, say)


def liveness(settings: Settings) -> str:
    """Return the URL that the front answers without Ray."""
    return f"{settings.inference_url}/ping"


def log(settings: Settings, name: str) -> Path:
    """Return the log file of a part."""
    return settings.run_dir / f"{name}.log"


def _start(settings: Settings, supervisor: Supervisor, say: Say) -> list[str]:
    """Start the parts that the supervisor does not have, and return their names."""
    states = {state.name for state in supervisor.states() if state.alive}
    if not states.intersection(PARTS):
        if orphans := find_all(settings):
            say(f"{len(orphans)} processes of the Ray host have no supervisor: they are started anew")
            kill(orphans)
        _make_ready(settings)
    began = [
        part.name
        for part in (program(settings, name) for name in PARTS)
        if supervisor.start(
            part.name, part.command, log(settings, part.name), part.url, {**capturing(settings), **part.variables}
        )
    ]
    if began:
        say(f"started {', '.join(began)}, logs {log(settings, 'ray-*')}; Ray's own lie in {Place(settings).folder}")
    return began


def _make_ready(settings: Settings) -> None:
    """Make the folders of a run, without what an earlier one left there."""
    place = Place(settings)
    check_port(settings.bind_address, settings.inference_port, "MARLOOP_INFERENCE_PORT")
    for offset in Offset:
        check_port(place.address, place.port(offset), "MARLOOP_RAY_PORT, the first of 20")
    make_private(settings.temporary)
    empty_metrics(settings)
    for folder in (place.folder, place.tables):
        shutil.rmtree(folder, ignore_errors=True)
    place.front_map.unlink(missing_ok=True)
    place.state.unlink(missing_ok=True)


def check_installed() -> None:
    """Raise ``LaunchError`` where the extra ``ray`` is not installed."""
    if why := front.missing():
        raise LaunchError(why)


def _mark(settings: Settings) -> str:
    return mark_of(Place(settings))


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""


def _memory(processes: Sequence[psutil.Process]) -> float:
    """Return the resident memory of processes in MB; none of those that have ended."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss / 1e6
    return total


def _keeper(settings: Settings) -> psutil.Process | None:
    line = command(settings, KEEPER)[1:]
    return next((process for process, other in commands() if other[1:] == line and runs(process)), None)


def _slow(file: Path) -> bool:
    """Tell whether Ray gave a slow node up, which the supervisor starts again, with warm files."""
    return SLOW in tail(file)


def _check(settings: Settings, supervisor: Supervisor, began: Sequence[str], deadline: float, waiting: str) -> None:
    """Raise ``LaunchError`` if a part ended, started now or before, or the deadline has passed."""
    states = {state.name: state for state in supervisor.states()}
    for name in PARTS:
        state, file = states.get(name), log(settings, name)
        if name in began and state and state.state in ("BACKOFF", "EXITED") and _slow(file):
            continue
        if state is None or not state.alive or (name in began and state.state == "BACKOFF"):
            if began:
                supervisor.stop(*began)
                kill(find_all(settings))
            raise LaunchError(f"{name} of the Ray host ended. The end of {file}:\n{tail(file)}")
    if time.monotonic() > deadline:
        file = log(settings, HEAD)
        raise LaunchError(f"not ready after {START_TIMEOUT:.0f} s ({waiting}). The end of {file}:\n{tail(file)}")
