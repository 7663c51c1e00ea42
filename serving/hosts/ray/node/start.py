"""``python -m serving.hosts.ray.node.start start …``: ``ray start``, with what its command line cannot be told.

- The raylet knows all ports of its node. Ray tells it all but that of its dashboard agent, for which it waits 15 s.
  Then it ends, and its node too (``NodeManager::WaitForDashboardAgentPorts`` of Ray 2.60). On a busy machine the agent
  is not loaded by then. A raylet that is told the port does not wait.
- No server for Ray Client is started, since nothing here uses it. Of all that a head starts it takes the longest to
  load, and whoever reaches it runs code.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

OPTION = "--dashboard-agent-listen-port="  # of `ray start`
RAYLET = "raylet"  # Ray's name of this type of process


def port_of(arguments: Sequence[str]) -> str:
    """Return the port of the dashboard agent in the arguments of ``ray start``.

    Raises:
        SystemExit: there is none.
    """
    for argument in arguments:
        if argument.startswith(OPTION):
            return argument.removeprefix(OPTION)
    raise SystemExit(f"{OPTION}PORT is missing: the raylet would wait for it")


def telling(start: Callable[..., Any], port: str) -> Callable[..., Any]:
    """Return Ray's function that starts a process, which tells a raylet the port.

    Args:
        start: takes a command and the type of its process, and what else it is given.
    """

    def start_process(command: list[str], process_type: str, *more: Any, **options: Any) -> Any:
        known = [f"--dashboard_agent_listen_port={port}"] if process_type == RAYLET else []
        return start([*command, *known], process_type, *more, **options)

    return start_process


def unused_client() -> ImportError:
    """Return why no server for Ray Client is started, as Ray does where its packages are missing."""
    return ImportError("Ray Client is not used here")


def main() -> None:
    """Do what ``ray`` does with the same arguments."""
    from ray._private import services
    from ray.scripts import scripts

    services.start_ray_process = telling(services.start_ray_process, port_of(sys.argv))
    vars(scripts)["get_ray_client_dependency_error"] = unused_client
    scripts.cli()


if __name__ == "__main__":
    main()
