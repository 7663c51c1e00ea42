"""``python -m serving.hosts.ray.keeper``: has Ray Serve run the registry's champions, whatever became of them.

It deploys a champion that the registry names anew, and all versions again where the head has forgotten them. It also
counts what the front refuses.
"""

import argparse
import contextlib
import logging
import os
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from handlers.observe.logs import configure
from handlers.observe.metrics_folder import VARIABLE, hold_lock
from serving import documents
from serving.hosts.host import LaunchError
from serving.hosts.ray import background, deployed, tables
from serving.hosts.ray.cluster import ServeApi
from serving.hosts.ray.deployed import State
from serving.hosts.ray.front import control as front
from serving.hosts.ray.front.refusals import Refusals
from serving.hosts.ray.rollout import RayRollout
from serving.hosts.ray.settings import Place
from serving.registry import ArchiveError, Registry
from serving.settings import Settings
from serving.store.opening import open_copy

logger = logging.getLogger(__name__)
PAUSE = 2.0  # s between two looks


class Keeper:
    """Compares what is deployed with the registry and with Ray Serve.

    Args:
        serve: says which applications there are.
        rollout: deploys the champions.
    """

    def __init__(self, place: Place, registry: Registry, serve: ServeApi, rollout: RayRollout) -> None:
        self._place, self._registry, self._serve, self._rollout = place, registry, serve, rollout
        self._tried: object = None

    def look(self) -> bool:
        """Deploy what is missing, and return whether anything was.

        A champion that does not load is tried again only where the registry has changed since.

        Raises:
            LaunchError: the head does not answer, or a version does not load.
            ArchiveError: the registry is damaged.
        """
        state, stamp = deployed.read(self._place), documents.stamp(self._registry.path)
        known = self._serve.applications()
        tables.came_up(self._place)
        forgotten = [version.name for version in state.applications if version.name not in known]
        champions = {name: champion.number for name, champion in self._registry.champions().items()}
        differs = champions != state.champions and stamp != self._tried
        if not forgotten and not differs:
            return False
        logger.warning("deploying %s", ", ".join(forgotten) or "the champions of the registry")
        self._tried = stamp
        self._rollout.converge(keep=beside(state))
        return True


def beside(state: State) -> set[tuple[str, str]]:
    """Return the versions that are served beside the champions."""
    return state.keys - {*state.champions.items()}


def main() -> None:
    """Look until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", required=True, help="folder of the run, by which its processes are found")
    arguments = parser.parse_args()
    configure()
    settings = Settings.from_environment({**os.environ, "MARLOOP_RUN_DIR": arguments.run_dir})
    place, registry = Place(settings), open_copy(settings)
    serve = ServeApi(place.dashboard, place.token)
    rollout = background.rollout(settings, say=lambda text: logger.warning("%s", text))
    keeper = Keeper(place, registry, serve, rollout)
    refusals = Refusals(lambda: front.refusals(place), CollectorRegistry())
    with contextlib.ExitStack() as stack:
        if metrics := os.environ.get(VARIABLE):
            stack.enter_context(hold_lock(Path(metrics)))  # shows the exporter that this process lives
        while True:
            time.sleep(PAUSE)
            refusals.look()
            try:
                keeper.look()
            except (LaunchError, ArchiveError) as error:
                logger.warning("%s", error)


if __name__ == "__main__":
    main()
