"""The files of the workers' metrics: those of dead workers are added up, and removed with their version.

A sum must not go back. So the counts of dead workers stay as long as their version is served, in one file of each kind,
whose number is no process id.
"""

import contextlib
import json
import logging
import os
import re
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from handlers.observe.metrics_folder import ROOM, check_values

logger = logging.getLogger(__name__)
JOURNAL = "added-up.json"  # the rest of an addition that may have been broken off
NO_PID = 1 << 32  # the lowest number of a sum's file; a process id has at most 22 bits (proc(5), pid_max)
_SUMMED = re.compile(r"(?P<kind>counter|histogram)_\d+\.db")


def add_up_dead(directory: Path) -> None:
    """Put the counts of a version's dead workers into one file for each kind, while nobody reads the files.

    An addition can be broken off anywhere. Once its sum is written whole, the journal names the files that are part of
    it, and the next call goes on from there.
    """
    with contextlib.suppress(OSError):  # in a folder that is full or read-only the files stay as they are
        _finish(directory)
        groups: defaultdict[str, list[Path]] = defaultdict(list)
        for path in sorted(directory.glob("*.db")):
            name = _SUMMED.fullmatch(path.name)
            if name and not _lives(path):
                with contextlib.suppress(Exception):  # it is damaged, as the exporter reports
                    check_values(path)
                    number = NO_PID + zlib.crc32(json.dumps(sorted(versions_of(path))).encode())
                    groups[f"{name['kind']}_{number}.db"].append(path)
        for target, paths in groups.items():
            if len(paths) > 1:
                _add_up(directory, target, paths)


def _add_up(directory: Path, target: str, paths: Sequence[Path]) -> None:
    values: defaultdict[str, float] = defaultdict(float)
    times: dict[str, float] = {}
    used = 8  # bytes: a head, and for each value its key, at most 8 of filling, 4 of length and 16 of numbers
    for path in paths:
        for key, value, time, _ in MmapedDict.read_all_values_from_file(str(path)):
            used += 0 if key in values else len(key.encode()) + 28
            values[key] += value
            times[key] = max(time, times.get(key, 0.0))
    new = directory / f"{target}.new"
    new.write_bytes(bytes(-(-used // ROOM) * ROOM))  # without it a full folder would end this process (SIGBUS)
    file = MmapedDict(str(new))
    for key, value in values.items():
        file.write_value(key, value, times[key])
    file.close()
    journal = directory / JOURNAL
    draft = journal.with_suffix(".draft")
    draft.write_text(json.dumps([target, *(path.name for path in paths if path.name != target)]))
    os.replace(draft, journal)
    _finish(directory)


def _finish(directory: Path) -> None:
    """Put the sum that the journal names in its place, and remove the files that are part of it."""
    journal = directory / JOURNAL
    try:
        target, *added = json.loads(journal.read_bytes())
    except FileNotFoundError:
        return
    with contextlib.suppress(FileNotFoundError):  # it is there already
        os.replace(directory / f"{target}.new", directory / target)
    for name in added:
        (directory / name).unlink(missing_ok=True)
    journal.unlink()


def outdated(directory: Path, served: Collection[tuple[str, str]], before: datetime) -> Iterator[Path]:
    """Yield the files of ended workers of versions that are not served, unchanged since a moment.

    A file of a served version stays, also a dead worker's: its counts are part of a sum that must not go back.

    Args:
        served: models and versions.
        before: the moment.
    """
    for path in sorted(directory.glob("*.db")):
        try:
            if path.stat().st_mtime < before.timestamp() and not _lives(path) and not versions_of(path) & {*served}:
                yield path
        except OSError:
            continue  # it has been removed
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read, and stays: %s", path, error)


def versions_of(path: Path) -> set[tuple[str, str]]:
    """Return the models and versions in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    versions = set()
    for key, *_ in MmapedDict.read_all_values_from_file(str(path)):
        labels = json.loads(key)[2]
        versions.add((labels["model"], labels["version"]))
    return versions


def _lives(path: Path) -> bool:
    """Tell whether the lock of a file's worker is there; the exporter removes those of dead workers."""
    return path.with_name(f"{path.stem.rpartition('_')[2]}.lock").exists()
