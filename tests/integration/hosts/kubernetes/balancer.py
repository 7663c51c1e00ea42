"""HAProxy before several pods: who is ready gets requests, and none is sent twice."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from serving.settings import free_ports
from tests.support.waiting import wait_until

CONFIG = """
global
  maxconn 1000
defaults
  mode {mode}
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout check 5s
  retries 0
frontend clients
  bind 127.0.0.1:{port}
  default_backend pods
backend pods
  balance roundrobin
  option httpchk GET {path}
  default-server check inter 300ms fall 1 rise 1
{servers}
"""


@contextlib.contextmanager
def balancing(mode: str, path: str, ports: Sequence[int], folder: Path) -> Iterator[str]:
    """HAProxy on a port of its own until the block ends; its URL.

    Args:
        mode: ``http``, as an Ingress, which chooses a pod for each request; ``tcp``, as a Service, for each connection.
        path: a pod that answers it 200 is ready.
    """
    program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("there is no haproxy")
    (port,) = free_ports(1)
    servers = "\n".join(f"  server pod{i} 127.0.0.1:{each}" for i, each in enumerate(ports))
    file = folder / f"haproxy-{mode}.cfg"
    file.write_text(CONFIG.format(mode=mode, port=port, path=path, servers=servers))
    with subprocess.Popen([program, "-f", str(file), "-db"]) as process:
        try:
            wait_until(lambda: is_open(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def is_open(port: int) -> bool:
    """Tell whether something listens on a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
