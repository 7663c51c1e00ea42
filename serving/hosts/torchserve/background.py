"""TorchServe in the background: start it, bring it up to date, stop it with all that it started."""

import os
import shutil
import sys
import time
from collections.abc import Callable

import httpx
import psutil
from filelock import FileLock

from handlers.observe.settings import CAPTURE_URL
from serving import rollout
from serving.hosts.torchserve.drain import drain
from serving.hosts.torchserve.launch import LaunchError, verified
from serving.hosts.torchserve.management import Management
from serving.processes import end, find_frontend, find_workers, kill, tail
from serving.readiness import Readiness, ask_all
from serving.registry import Registry
from serving.security.folders import make_run_folder
from serving.settings import Settings
from serving.supervision import watcher
from serving.supervision.supervisor import Supervisor

PART = "torchserve"
COMMAND = [sys.executable, "-m", "serving", "launch"]
DRAIN_COMMAND = [sys.executable, "-m", "serving", "drain"]
START_TIMEOUT = 120.0  # s
find = find_frontend
Say = Callable[[str], None]


def start(settings: Settings, poll: float = 0.2, say: Say = lambda text: None) -> list[Readiness]:
    """Start TorchServe, or bring the running one up to date, and wait until every champion answers.

    Returns:
        The readiness of every champion; refused archives are among them.

    Raises:
        LaunchError: it ended, or did not answer in time; the message has the end of its log.
        SupervisorError: its supervisor cannot be started.
    """
    make_run_folder(settings.run_dir)
    with FileLock(settings.run_dir / "start.lock"):
        registry, supervisor = Registry(settings.model_store), Supervisor(settings)
        archives, refused = verified(registry)
        deadline = time.monotonic() + START_TIMEOUT
        began = _start(settings, supervisor, say)
        if not began:
            while not watcher.answers(liveness(settings)):  # after a crash, it may be on its way
                _check(settings, supervisor, began, deadline, "its frontend does not answer")
                time.sleep(poll)
            with httpx.Client(timeout=rollout.TIMEOUT, trust_env=False) as client:
                management = Management(settings.management_address, client)
                metrics = settings.metrics_url
                rollout.connect(registry, management, settings.inference_url, client, say, metrics).converge()
        while True:
            found = ask_all(registry, settings.inference_url)
            if archives and all(one.ready or one.name in refused for one in found):
                return ask_all(registry, settings.inference_url)  # the first answers waited for the models to load
            waiting = "; ".join(f"{one.name}: {one.detail}" for one in found if not one.ready)
            _check(settings, supervisor, began, deadline, waiting)
            time.sleep(poll)


def stop(settings: Settings) -> int:
    """End TorchServe and every process that it started, also such as outlived it.

    Returns:
        How many processes were ended.
    """
    frontend, workers = find(settings), find_workers(settings)
    if frontend:
        drain(settings)
    Supervisor(settings).stop(PART)
    end([process for process in [find(settings)] if process])  # one that no supervisor knows ends its workers itself
    kill(find_workers(settings))  # whoever outlived the frontend answers nobody, and may be stopped
    if settings.metrics_dir is None:  # ours, in memory
        shutil.rmtree(settings.metrics, ignore_errors=True)
    return len([frontend] if frontend else []) + len(workers)


def liveness(settings: Settings) -> str:
    """Return the URL that the frontend answers without a worker."""
    return f"{settings.inference_url}/ping"


def capturing(settings: Settings) -> dict[str, str]:
    """Return the variable by which workers know where to send what they predicted."""
    return {CAPTURE_URL: os.environ.get(CAPTURE_URL) or f"{settings.monitor_url}/events"}


def memory(process: psutil.Process) -> dict[str, float]:
    """Resident memory of the frontend and of its workers together, in MB."""
    workers = process.children(recursive=True)
    sizes = {"frontend": process.memory_info().rss, "workers": sum(worker.memory_info().rss for worker in workers)}
    return {name: size / 1e6 for name, size in sizes.items()}


def _start(settings: Settings, supervisor: Supervisor, say: Say) -> bool:
    """Start TorchServe unless its supervisor has it; whether it was started now."""
    frontend, state = find(settings), supervisor.state(PART)
    if frontend and not (state and state.alive):
        say(f"process {frontend.pid} is a TorchServe that nobody supervises: it is started anew")
        end([frontend, *find_workers(settings)], [frontend])
    began = supervisor.start(PART, COMMAND, settings.log, liveness(settings), capturing(settings))
    if began and (state := supervisor.state(PART)):
        say(f"started TorchServe, process {state.pid}, log {settings.log}")
    return began


def _check(settings: Settings, supervisor: Supervisor, began: bool, deadline: float, waiting: str) -> None:
    """Raise if TorchServe, whether it was started now or before, can no longer be waited for."""
    state = supervisor.state(PART)
    if state is None or not state.alive or (began and state.state == "BACKOFF"):
        if began:
            supervisor.stop(PART)
        raise LaunchError(f"TorchServe ended. The end of {settings.log}:\n{tail(settings.log)}")
    if time.monotonic() > deadline:
        raise LaunchError(f"not ready after {START_TIMEOUT:.0f} s ({waiting}). The log's end:\n{tail(settings.log)}")
