"""The drain of a running TorchServe before it is ended: it answers its requests and refuses new ones.

TorchServe closes every connection when it ends, and cannot stop listening before. So its workers refuse for it: each
is signalled, answers the requests that it has, and refuses later ones (``handlers/http/drain.py``).
"""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil

from handlers.http.drain import SIGNAL
from serving.hosts.torchserve.management import Management, ManagementError
from serving.hosts.torchserve.rollout import DRAIN_PAUSE, ask_last
from serving.processes import find_workers
from serving.registry import ArchiveError
from serving.settings import Settings
from serving.store.opening import open_copy

LIMIT = 10.0  # s for answers that were begun
SILENCE = 2.0  # s until a frontend that does not answer is given up
FLUSH = 0.5  # s for the last answers on their way, which the end would cut off


def drain(settings: Settings, limit: float = LIMIT) -> bool:
    """Refuse new requests, and wait until those before are answered.

    Returns:
        Whether they seem to be: the frontend answers, and each version answered our last request in time.
    """
    workers = find_workers(settings)
    if not workers:
        return True
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.send_signal(SIGNAL)
    end = time.monotonic() + limit
    registry = open_copy(settings)
    with httpx.Client(timeout=SILENCE, trust_env=False) as client:
        try:
            served = Management(settings.management_address, client).versions()
        except ManagementError:  # it hangs or has ended: there is nobody to wait for
            return False
        versions = [(name, number) for name, numbers in served.items() for number in numbers]
        if len(workers) > len(versions):  # time for the batch of a second worker, which answers no question of ours
            time.sleep(DRAIN_PAUSE)

        def wait(version: tuple[str, str]) -> bool:
            with contextlib.suppress(ArchiveError, KeyError):  # a trial is not in the registry: no example to ask
                ask_last(registry, client, settings.inference_url, *version, max(0.1, end - time.monotonic()))
            return time.monotonic() < end

        with ThreadPoolExecutor(max(1, len(versions))) as threads:
            answered = all(list(threads.map(wait, versions)))
    time.sleep(FLUSH)
    return answered
