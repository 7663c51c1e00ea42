"""The HAProxy of a node: its pages are on loopback, and it ends with the process that started it."""

import subprocess
import sys
from pathlib import Path

import psutil

from serving.hosts.ray.launch import PROXY
from serving.hosts.ray.node.proxy import private
from tests.support.waiting import wait_until


def test_pages_are_bound_to_loopback_and_what_serves_is_not() -> None:
    config = "frontend prometheus\n    bind :9101\nfrontend http\n    bind *:8000\nlisten stats\n  bind *:8404\n"
    assert private(config) == (
        "frontend prometheus\n    bind 127.0.0.1:9101\nfrontend http\n    bind *:8000\n"
        "listen stats\n  bind 127.0.0.1:8404\n"
    )


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    starter = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", starter, sys.executable, "-I", str(PROXY), "/bin/sleep", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        wait_until(lambda: child.cmdline()[:1] == ["/bin/sleep"])
        parent.kill()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
