"""A file that is served as it is runs in a process of its own, whose end costs one request."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil

from tests.integration.conftest import Server
from tests.support.waiting import wait_until


def test_a_killed_process_costs_the_request_under_way_and_is_started_again(own: Server) -> None:
    def ask(value: float) -> Any:
        return own.client.post(f"{own.url}/predictions/halved", json={"inputs": [value, 1, 2, 3]}, timeout=120)

    right = ask(0.5).json()
    killed: list[psutil.Process] = []

    def refused() -> bool:
        """Kill while a request is under way, which it mostly is after a second."""
        processes = children_of(own)
        assert processes
        for process in processes:
            process.suspend()
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(ask, 0.7)
            time.sleep(1)
            for process in processes:
                process.kill()
            response = under_way.result(120)
        killed.extend(processes)
        if response.status_code == 200:  # it came after the kill
            return False
        assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
        return True

    wait_until(refused)
    wait_until(lambda: ask(0.5).status_code == 200)  # those of every model start at once, on few cores
    assert ask(0.5).json() == right
    assert not any(process.is_running() for process in killed)  # nor is one a zombie


def children_of(own: Server) -> list[psutil.Process]:
    """The processes that run models of this server."""
    workers = [psutil.Process(pid) for pid in own.worker_pids()]
    children = {child for worker in workers for child in worker.children()}
    return [child for child in children if "handlers.engine.child" in " ".join(child.cmdline())]
