"""Scenarios from files, with single values changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtests.capacity.simulation.scenario import Scenario, ScenarioError


def read_scenario(path: Path, changes: Sequence[str]) -> Scenario:
    """Read a scenario, and change values of it.

    Args:
        changes: each ``NAME=VALUE``, such as ``cluster.start=60`` or ``policy=random``; a value is JSON, or a text.

    Raises:
        ScenarioError: names the file or the change, and what is wrong.
    """
    try:
        document = msgspec.json.decode(path.read_bytes())
        for change in changes:
            _change(document, change)
        scenario = msgspec.convert(document, Scenario)
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path} is no scenario: {error}") from error
    scenario.check()
    return scenario


def _change(document: Any, change: str) -> None:
    name, separator, text = change.partition("=")
    if not separator:
        raise ScenarioError(f"--set {change} must be NAME=VALUE, such as cluster.start=60")
    try:
        value = msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        value = text
    *parents, last = name.split(".")
    for parent in parents:
        document = document.setdefault(parent, {}) if isinstance(document, dict) else None
    if not isinstance(document, dict):
        raise ScenarioError(f"--set {change}: {name} names no value of the scenario")
    document[last] = value
