"""``python -m serving.hosts.ray.launch PART``: becomes Ray's head, another node of its cluster, or the front.

Ray's workers run the code of archives and inherit this environment, so that no secret is left in it but the token that
may send events, and the one by which the processes of the cluster know each other.
"""

import argparse
import os
import secrets
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from handlers.engine import available_cores
from serving.documents import write_atomically
from serving.hosts.ray import deployed, tables
from serving.hosts.ray.archive_code import METRICS
from serving.hosts.ray.front import control as front
from serving.hosts.ray.settings import Offset, Place, RaySettings
from serving.hosts.starting import capturing
from serving.hosts.worker_environment import worker_environment
from serving.processes import kill, limit_files, marked
from serving.security.folders import make_private
from serving.settings import Settings

MARK = "MARLOOP_RAY_OF"  # the variable with the folder of the run, by which its processes are found
START, PROXY = "serving.hosts.ray.node.start", Path(__file__).parent / "node" / "proxy.py"
LOGICAL_CORES = 64  # a machine takes as many replicas as the registry asks for: they share its cores
OBJECT_STORE = 80_000_000  # bytes, the least that Ray takes: requests do not pass through it
NODE_PATIENCE = 90  # s that a node may take until its head knows it, and its agents until they answer; Ray's: 30
PROXY_PATIENCE = 30  # s until a proxy that does not say that it is ready, or lives, has failed; three times end it
MOST_FILES = 16384  # a connection takes one


def mark_of(place: Place) -> str:
    """Return the value of ``MARK`` in the environment of a run's processes; no other run's begins so."""
    return f"{place.settings.run_dir.resolve()};"


def node_command(place: Place, head: str) -> list[str]:
    """Return the command that runs a node of a cluster in the foreground.

    Args:
        head: address of the cluster's head; empty for the head itself.
    """
    port = place.port
    role = [f"--address={head}"]
    if not head:
        role = [
            "--head",
            f"--port={port(Offset.GCS)}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={port(Offset.DASHBOARD)}",
            "--no-monitor",  # no autoscaler starts machines here
        ]
    return [
        *(sys.executable, "-m", START, "start", *role, "--block", f"--temp-dir={place.folder}"),
        f"--node-ip-address={place.address}",
        f"--dashboard-agent-listen-port={port(Offset.AGENT)}",
        f"--dashboard-agent-grpc-port={port(Offset.AGENT_GRPC)}",
        f"--runtime-env-agent-port={port(Offset.RUNTIME_ENV)}",
        f"--metrics-export-port={port(Offset.METRICS)}",
        f"--node-manager-port={port(Offset.NODE_MANAGER)}",
        f"--object-manager-port={port(Offset.OBJECT_MANAGER)}",
        *("--min-worker-port=0", "--max-worker-port=0", f"--object-store-memory={OBJECT_STORE}"),
        *(f"--num-cpus={max(LOGICAL_CORES, available_cores())}", "--disable-usage-stats"),
    ]


def node_environment(place: Place, environ: Mapping[str, str], head: str = "") -> dict[str, str]:
    """Return the environment of a node, which all its processes inherit; a variable of Ray that is set stays.

    Args:
        head: address of the cluster's head, on whose machine the monitor is; empty for the head itself.
    """
    folder, port = place.folder, place.port
    proxy = place.settings.temporary / "p"  # Ray adds 57 characters, and a socket's path has 97 at most
    ours = {
        MARK: mark_of(place),
        METRICS: str(place.settings.metrics),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place.token),
        # Else Ray takes another address than loopback, and says nothing; but a node cannot join with it.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0" if place.is_alone else "1",
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(tables.AWAY),
        "RAY_gcs_server_port_wait_time_s": str(tables.PATIENCE),
        "RAY_raylet_start_wait_time_s": str(NODE_PATIENCE),
        "RAY_agent_register_timeout_ms": str(1000 * NODE_PATIENCE),
        "RAY_worker_niceness": "0",  # Ray's 15 has proxies and replicas wait for whatever else the machine does
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # the front has answered what it took
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Else Serve ends a proxy that a busy machine has not loaded, and with it the deployment that waits for it.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(PROXY_PATIENCE),
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": str(PROXY_PATIENCE),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(port(Offset.FALLBACK_HTTP)),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(port(Offset.FALLBACK_GRPC)),
        "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(port(Offset.PROXY)),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(port(Offset.PROXY_STATS)),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(port(Offset.PROXY_METRICS)),
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # a line for each request, of what the models count themselves
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, available_cores())),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(folder / "haproxy"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(proxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(proxy / "s"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(proxy / "m"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(proxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(proxy / "server-state"),
    }
    rays = {name: value for name, value in environ.items() if name.startswith("RAY_")}
    captures = capturing(place.settings, head.rpartition(":")[0])
    return worker_environment(environ) | captures | ours | rays


def write_proxy(place: Place) -> None:
    """Write the program that Ray starts as its HAProxy, which ends with the process that started it."""
    make_private(place.settings.temporary)
    place.folder.mkdir(exist_ok=True)
    program = place.folder / "haproxy"
    command = shlex.join([sys.executable, "-I", str(PROXY), front.binary()])
    program.write_bytes(os.fsencode(f'#!/bin/sh\nexec {command} "$@"\n'))
    program.chmod(0o700)


def make_token(place: Place, environ: Mapping[str, str]) -> None:
    """Write the token of the cluster: the one in ``RAY_AUTH_TOKEN``, as all machines have it, else a new one."""
    make_private(place.settings.temporary)
    token = environ.get("RAY_AUTH_TOKEN", "")
    if token or not place.token.exists():
        write_atomically(place.token, (token or secrets.token_hex(32)).encode(), private=True)


def become(place: Place, part: str, address: str, environ: Mapping[str, str]) -> None:
    """Become a part, and return only by an error.

    Args:
        part: ``head``, ``node`` or ``front``.
        address: of the head, for a node.

    Raises:
        LaunchError: Ray is not installed.
    """
    limit_files(MOST_FILES)
    if part == "front":
        front.write(place, RaySettings.from_environment(environ), deployed.read(place).champions)
        command, environment = front.command(place), worker_environment(environ)
    else:
        kill(marked(MARK, mark_of(place)))  # left by a head that was killed, on the ports of this one
        make_token(place, environ)
        write_proxy(place)
        command, environment = node_command(place, address), node_environment(place, environ, address)
        if not address:
            environment = tables.variables(place, environ) | environment
            tables.prepare(place)
    os.execve(command[0], command, environment)


def main() -> None:
    """Become the part that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["head", "node", "front"])
    parser.add_argument("--address", default="", help="of the head, for a node")
    parser.add_argument("--run-dir", required=True, help="folder of the run, by which its processes are found")
    arguments = parser.parse_args()
    settings = Settings.from_environment({**os.environ, "MARLOOP_RUN_DIR": arguments.run_dir})
    become(Place(settings), arguments.part, arguments.address, os.environ)


if __name__ == "__main__":
    main()
