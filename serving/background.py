"""TorchServe in the background: start it, bring it up to date, stop it with all that it started."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable

import httpx
import psutil
from filelock import FileLock

from serving import rollout
from serving.champions import ask_all
from serving.companion import commands, spawn, tail
from serving.launch import LaunchError, verified
from serving.management import Management
from serving.readiness import Readiness
from serving.registry import Registry
from serving.settings import Settings

START_TIMEOUT = 120.0  # s
STOP_TIMEOUT = 10.0
CAPTURE = "CAPTURE_URL"  # where workers send what they predicted; "off" for nowhere


def start(settings: Settings, poll: float = 0.2, say: Callable[[str], None] = lambda text: None) -> list[Readiness]:
    """Start TorchServe, or bring the running one up to date, and wait until every champion answers.

    Returns:
        The readiness of every champion; refused archives are among them.

    Raises:
        LaunchError: it ended, or did not answer in time; the message has the end of its log.
    """
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.run_dir / "start.lock"):
        registry = Registry(settings.model_store)
        archives, refused = verified(registry)
        process = find(settings)
        if process is None:
            capture = {CAPTURE: os.environ.get(CAPTURE) or f"{settings.monitor_url}/events"}
            process = spawn([sys.executable, "-m", "serving", "launch"], settings.log, settings, capture)
            say(f"started TorchServe, process {process.pid}, log {settings.log}")
        else:
            with httpx.Client(timeout=rollout.TIMEOUT, trust_env=False) as client:
                management = Management(settings.management_address, client)
                rollout.connect(registry, management, settings.inference_url, client, say).converge()
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            found = ask_all(registry, settings.inference_url)
            if archives and all(one.ready or one.name in refused for one in found):
                return ask_all(registry, settings.inference_url)  # the first answers waited for the models to load
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                raise LaunchError(f"TorchServe ended. The end of {settings.log}:\n{tail(settings.log)}")
            if time.monotonic() > deadline:
                waiting = "; ".join(f"{one.name}: {one.detail}" for one in found if not one.ready)
                raise LaunchError(
                    f"not ready after {START_TIMEOUT:.0f} s ({waiting}). The log's end:\n{tail(settings.log)}"
                )
            time.sleep(poll)


def stop(settings: Settings) -> int:
    """End TorchServe and every process that it started, also such as outlived it.

    Returns:
        How many processes were ended.
    """
    frontend = find(settings)
    processes = [*([frontend] if frontend else []), *_workers(settings)]
    for process in processes[:1] if frontend else processes:  # the frontend ends its workers itself
        _quietly(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=STOP_TIMEOUT)
    for process in alive:
        _quietly(process.kill)
    psutil.wait_procs(alive, timeout=STOP_TIMEOUT)
    if settings.metrics_dir is None:  # ours, in memory
        shutil.rmtree(settings.metrics, ignore_errors=True)
    return len(processes)


def find(settings: Settings) -> psutil.Process | None:
    """The frontend that runs for these settings, told by its temporary folder; None if there is none."""
    mark = f"-Djava.io.tmpdir={settings.temporary}"
    return next((process for process, command in commands() if mark in command), None)


def memory(process: psutil.Process) -> dict[str, float]:
    """Resident memory of the frontend and of its workers together, in MB."""
    workers = process.children(recursive=True)
    sizes = {"frontend": process.memory_info().rss, "workers": sum(worker.memory_info().rss for worker in workers)}
    return {name: size / 1e6 for name, size in sizes.items()}


def _workers(settings: Settings) -> list[psutil.Process]:
    socket = f"{settings.temporary}/"
    return [
        p for p, command in commands() if any(part.startswith(socket) for part in command) and "--sock-name" in command
    ]


def _quietly(action: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        action()
