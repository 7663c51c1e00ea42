"""The tables of Ray's head, in which it has the machines, replicas and versions of its cluster.

They lie on disk where other machines can join (`GCS fault tolerance
<https://docs.ray.io/en/master/core/fault-tolerance/gcs.html>`_, alpha in 2.60), so that replicas there serve on while
the head is away. ``RAY_gcs_storage=memory`` keeps them in memory, as on one machine alone, whose replicas end with the
head. ``RAY_REDIS_ADDRESS`` keeps them in Redis, where a head on another machine can read them too.
"""

import shutil
from collections.abc import Mapping

from serving.hosts.ray.settings import Place
from serving.security.folders import make_private

DISK = "rocksdb"  # Ray's name of tables on disk
AWAY = 3600  # s that the other machines go on without their head
PATIENCE = 120  # s that a machine waits for its head, or the head for its tables, when it starts
TRIES = 3  # starts in a row by which a head did not come up with its tables, until it begins without them
_STARTS = "starts-of-the-head"  # the file with their number
_ADDRESS = "ray_current_cluster"  # Ray's file with the address of the last head


def variables(place: Place, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that have a head keep its tables on disk; none where it keeps them elsewhere."""
    elsewhere = place.is_alone or environ.get("RAY_REDIS_ADDRESS")
    if environ.get("RAY_gcs_storage", "memory" if elsewhere else DISK) != DISK:
        return {}
    return {"RAY_gcs_storage": DISK, "RAY_gcs_storage_path": str(place.tables)}


def prepare(place: Place) -> None:
    """Make the folder before a head starts. Tables with which it did not come up are given up: it deploys all anew."""
    file = place.folder / _STARTS
    starts = len(file.read_bytes()) if file.exists() else 0
    if starts >= TRIES:
        shutil.rmtree(place.tables, ignore_errors=True)
        starts = 0
    make_private(place.tables)
    (place.folder / _ADDRESS).unlink(missing_ok=True)  # else the nodes of a killed head count as a head that runs
    file.write_bytes(b"." * (starts + 1))


def came_up(place: Place) -> None:
    """Note that a head answers with its tables."""
    (place.folder / _STARTS).unlink(missing_ok=True)
