"""Changes of the versions that the direct host serves on machines of which this is none, such as pods of Kubernetes.

Each of these machines follows the shared model store by itself. So a promotion is a change of the registry alone, once
the version was loaded here; then the machines are asked through the address that clients ask, where any may answer.
"""

import time
from collections.abc import Callable, Collection
from typing import Annotated

import httpx

from handlers.observe.settings import EnvironmentSettings, says
from serving.hosts.direct.unpacked import check_served
from serving.hosts.host import TIMEOUT, LaunchError, alone, champion_number
from serving.hosts.trial import check_loads
from serving.registry import Registry, version_of
from serving.store.shared.mirror import synchronise

ENOUGH = 20  # answers in a row, each over a connection of its own, that count for all machines
POLL = 0.2  # s
PATIENCE = 5.0  # s for an answer


class FleetSettings(EnvironmentSettings, frozen=True):
    """Whether the monitor's host runs on other machines."""

    fleet: Annotated[
        bool,
        says(
            "on: the direct host runs on other machines, which follow the shared model store and answer at "
            "MARLOOP_INFERENCE_URL. The monitor then promotes in the store alone; no version is served beside a "
            "champion, so that MARLOOP_SHADOW_REQUESTS must be 0."
        ),
    ] = False


class FleetRollout:
    """See ``Rollout``; a version that is no champion is served nowhere.

    Args:
        registry: of the shared store.
        client: has the key of the service.
        url: of the inference port, behind which all machines are.
    """

    def __init__(
        self, registry: Registry, client: httpx.Client, url: str, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self._registry, self._client, self._url, self._say = registry, client, url, say

    def answers(self) -> bool:
        """Tell whether one of the machines answers."""
        return self._status("/v2/health/live") == 200

    def beside(self, name: str, number: str) -> None:
        """Check the version as a promotion would; nothing is served beside a champion."""
        check_served(self._registry.verify(version_of(self._registry.models(), name, number)))

    def withdraw(self, name: str, number: str) -> None:
        """Do nothing: only the champion is served."""

    def promote(self, name: str, number: str) -> str:
        """See ``Rollout``: the version is loaded here before the registry names it; then the machines follow."""
        with alone(self._registry):
            archive = self._registry.verify(version_of(self._registry.models(), name, number))
            check_served(archive)
            former = champion_number(self._registry, name)
            check_loads(archive)
            self._registry.promote(name, number)
            synchronise(self._registry)
        self._wait_for(name, number)
        self._say(f"promoted {name} {number}")
        return former

    def converge(self, keep: Collection[tuple[str, str]] = ()) -> None:
        """Bring the copy of the store up to date; the machines follow it by themselves."""
        synchronise(self._registry)

    def _wait_for(self, name: str, number: str) -> None:
        """Wait until ``ENOUGH`` answers in a row are of machines that serve a version.

        Raises:
            LaunchError: some still do not after ``TIMEOUT``.
        """
        path, deadline, good = f"/v2/models/{name}/versions/{number}/ready", time.monotonic() + TIMEOUT, 0
        while good < ENOUGH:
            status = self._status(path)
            good = good + 1 if status == 200 else 0
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"{name} {number} is champion, and not every machine behind {self._url} serves it after "
                    f"{TIMEOUT:.0f} s: the last one answered {status or 'nothing'}"
                )
            if not good:
                time.sleep(POLL)

    def _status(self, path: str) -> int:
        """Return the status of an answer over a connection of its own; 0 for none."""
        try:
            headers = {"Connection": "close"}
            return self._client.get(f"{self._url}{path}", headers=headers, timeout=PATIENCE).status_code
        except httpx.TransportError:
            return 0
