"""The programs of Prometheus and Alertmanager, where they are installed."""

import shutil
import subprocess

import pytest

PACKAGES = {"prometheus": "prometheus", "promtool": "prometheus", "amtool": "prometheus-alertmanager"}
PACKAGES["alertmanager"] = PACKAGES["prometheus-alertmanager"] = "prometheus-alertmanager"


def need(*names: str) -> str:
    """The path of the program that is called by one of these names; else the test is skipped."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"{' or '.join(names)} is not installed: Debian's package {PACKAGES[names[0]]} has it")
    return found


def run(*command: str) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
