"""``python -m serving.hosts.ray.keeper``: has Ray Serve run the registry's champions, whatever became of them.

It deploys a champion that the registry names anew, and all versions again where the head has forgotten them: one that
was killed comes back empty, unless it keeps its tables in Redis (``RAY_REDIS_ADDRESS``).
"""

import argparse
import logging
import os
import time

from handlers.observe.logs import configure
from serving import documents
from serving.hosts.host import LaunchError
from serving.hosts.ray import background, deployed
from serving.hosts.ray.cluster import ServeApi
from serving.hosts.ray.deployed import State
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
    while True:
        time.sleep(PAUSE)
        try:
            keeper.look()
        except (LaunchError, ArchiveError) as error:
            logger.warning("%s", error)


if __name__ == "__main__":
    main()
