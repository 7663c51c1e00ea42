"""TorchServe in the background: started, brought up to date, stopped with all that it started."""

import shutil
import sys
import time

import httpx
from filelock import FileLock

from serving.hosts.host import HERE, TIMEOUT, LaunchError, Reach, Say
from serving.hosts.starting import START_TIMEOUT, capturing, verified, wait_until_ready
from serving.hosts.torchserve.drain import drain
from serving.hosts.torchserve.management import Management
from serving.hosts.torchserve.rollout import TorchServeRollout, connect
from serving.processes import end, find_frontend, find_workers, kill, tail
from serving.readiness import Readiness
from serving.security.folders import make_run_folder
from serving.settings import Settings
from serving.store.opening import open_copy, open_registry
from serving.supervision import companion, watcher
from serving.supervision.companion import Companion
from serving.supervision.supervisor import Program, Supervisor

TITLE = "TorchServe"
PART = "torchserve"
COMMAND = [sys.executable, "-m", "serving", "launch"]
DRAIN_COMMAND = [sys.executable, "-m", "serving", "drain"]
find = find_frontend


def start(settings: Settings, poll: float = 0.2, say: Say = lambda text: None) -> list[Readiness]:
    """See ``Host``."""
    make_run_folder(settings.run_dir)
    with FileLock(settings.run_dir / "start.lock"):
        supervisor = Supervisor(settings)
        _, refused = verified(open_copy(settings))
        deadline = time.monotonic() + START_TIMEOUT
        began = _start(settings, supervisor, say)

        def check(waiting: str) -> None:
            _check(settings, supervisor, began, deadline, waiting)

        if not began:
            while not watcher.answers(liveness(settings)):  # after a crash, it may be on its way
                check("its frontend does not answer")
                time.sleep(poll)
            with _client() as client:
                _rollout(settings, client, HERE, say).converge()
        return wait_until_ready(settings, refused, check, poll)


def foreground(settings: Settings) -> tuple[list[Program], list[str]]:
    """See ``Host``: ``launch`` makes ready what it needs, at every start of its part."""
    return [Program(PART, COMMAND, liveness(settings))], DRAIN_COMMAND


def stop(settings: Settings) -> int:
    """See ``Host``: workers that outlived the frontend are ended too."""
    frontend, workers = find(settings), find_workers(settings)
    if frontend:
        drain(settings)
    Supervisor(settings).stop(PART)
    end([process for process in [find(settings)] if process])  # one without a supervisor ends its workers itself
    kill(find_workers(settings))  # one that outlived the frontend answers nobody, and may be stopped
    if settings.metrics_dir is None:  # ours, in memory
        shutil.rmtree(settings.metrics, ignore_errors=True)
    return len([frontend] if frontend else []) + len(workers)


def liveness(settings: Settings) -> str:
    """Return a URL that the frontend answers without a worker."""
    return f"{settings.inference_url}/ping"


def memory(settings: Settings) -> dict[str, float]:
    """See ``Host``: one figure for the frontend, and one for its workers together."""
    frontend = find(settings)
    workers = frontend.children(recursive=True) if frontend else []
    own = frontend.memory_info().rss if frontend else 0
    return {"frontend": own / 1e6, "workers": sum(worker.memory_info().rss for worker in workers) / 1e6}


def parts(settings: Settings) -> list[str]:
    """See ``Host``: it is one part."""
    return [PART]


def companions(settings: Settings) -> list[Companion]:
    """See ``Host``: the exporter and the management port."""
    return [companion.exporter(settings), companion.management(settings), *companion.mirror_if_shared(settings)]


def rollout(settings: Settings, reach: Reach = HERE, say: Say = lambda text: None) -> TorchServeRollout:
    """See ``Host``."""
    return _rollout(settings, _client(), reach, say)


def _client() -> httpx.Client:
    return httpx.Client(timeout=TIMEOUT, trust_env=False)


def _rollout(settings: Settings, client: httpx.Client, reach: Reach, say: Say) -> TorchServeRollout:
    management = Management(reach.management_address or settings.management_address, client, reach.token)
    url = reach.inference_url or settings.inference_url
    return connect(open_registry(settings), management, url, client, say, settings.metrics_url)


def _start(settings: Settings, supervisor: Supervisor, say: Say) -> bool:
    """Start TorchServe unless its supervisor has it, and return whether it was started now."""
    frontend, state = find(settings), supervisor.state(PART)
    if frontend and not (state and state.alive):
        say(f"process {frontend.pid} is a TorchServe that nobody supervises: it is started anew")
        end([frontend, *find_workers(settings)], [frontend])
    began = supervisor.start(PART, COMMAND, settings.log, liveness(settings), capturing(settings))
    if began and (state := supervisor.state(PART)):
        say(f"started TorchServe, process {state.pid}, log {settings.log}")
    return began


def _check(settings: Settings, supervisor: Supervisor, began: bool, deadline: float, waiting: str) -> None:
    """Raise ``LaunchError`` if TorchServe ended, started now or before, or the deadline has passed."""
    state = supervisor.state(PART)
    if state is None or not state.alive or (began and state.state == "BACKOFF"):
        if began:
            supervisor.stop(PART)
        raise LaunchError(f"TorchServe ended. The end of {settings.log}:\n{tail(settings.log)}")
    if time.monotonic() > deadline:
        raise LaunchError(f"not ready after {START_TIMEOUT:.0f} s ({waiting}). The log's end:\n{tail(settings.log)}")
