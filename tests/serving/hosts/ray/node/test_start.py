"""A node is started as Ray does it, but its raylet is told the port for which it would wait, and end."""

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import pytest

from serving.hosts.ray.node.start import RAYLET, port_of, telling

OPTION = "--dashboard_agent_listen_port"


def test_a_raylet_is_told_the_port_and_other_processes_are_started_as_ray_says() -> None:
    started: list[tuple[list[str], dict[str, Any]]] = []

    def start(command: list[str], process_type: str, **options: Any) -> str:
        started.append((command, options))
        return process_type

    start_process = telling(start, "6307")
    assert start_process(["gcs_server", "--port=1"], "gcs_server", fate_share=False) == "gcs_server"
    assert start_process(["raylet", "--head"], RAYLET, fate_share=True) == RAYLET
    assert started == [
        (["gcs_server", "--port=1"], {"fate_share": False}),
        (["raylet", "--head", f"{OPTION}=6307"], {"fate_share": True}),
    ]


def test_the_port_is_that_of_the_command_which_must_have_one() -> None:
    assert port_of(["start", "--head", "--dashboard-agent-listen-port=6307", "--block"]) == "6307"
    with pytest.raises(SystemExit, match="dashboard-agent-listen-port=PORT is missing"):
        port_of(["start", "--head"])


def test_ray_has_what_is_changed_here() -> None:
    """Read, since to import it takes seconds."""
    spec = importlib.util.find_spec("ray")
    if spec is None or spec.origin is None:
        pytest.skip("Ray, of the extra ray, is not installed")
    folder = Path(spec.origin).parent
    services = (folder / "_private/services.py").read_text()
    assert "\ndef start_ray_process(" in services
    assert "start_ray_process(\n        command,\n        ray_constants.PROCESS_TYPE_RAYLET," in services
    assert f'PROCESS_TYPE_RAYLET = "{RAYLET}"' in (folder / "_private/ray_constants.py").read_text()
    assert "get_ray_client_dependency_error() is None" in (folder / "scripts/scripts.py").read_text()
    program = folder / "core/src/ray/raylet/raylet"
    # gflags ends with 1 after its help.
    assert OPTION.lstrip("-") in subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60).stdout
