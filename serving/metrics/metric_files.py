"""The files that workers write their metrics to: which of them tell of what nobody serves any more."""

import json
import logging
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

logger = logging.getLogger(__name__)


def outdated(directory: Path, served: Collection[tuple[str, str]], before: datetime) -> Iterator[Path]:
    """The files of workers that have ended, of versions that are not served, unchanged since a moment.

    A file of a version that is served stays, also a dead worker's: its counts are part of a sum that must not go back.

    Args:
        directory: where workers write.
        served: models and versions.
        before: the moment.
    """
    for path in sorted(directory.glob("*.db")):
        try:
            if path.stat().st_mtime < before.timestamp() and not _lives(path) and not versions_of(path) & {*served}:
                yield path
        except OSError:
            continue  # it went meanwhile
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read, and stays: %s", path, error)


def versions_of(path: Path) -> set[tuple[str, str]]:
    """The models and versions that a file tells of.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    found = set()
    for key, *_ in MmapedDict.read_all_values_from_file(str(path)):
        labels = json.loads(key)[2]
        found.add((labels["model"], labels["version"]))
    return found


def _lives(path: Path) -> bool:
    """Whether the worker that writes a file has its lock there still; the exporter removes those of dead ones."""
    return path.with_name(f"{path.stem.rpartition('_')[2]}.lock").exists()
