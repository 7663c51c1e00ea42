"""Limits to what a zip from elsewhere may expand to: no model is packed so that it becomes a hundred times as large."""

import zipfile
from collections.abc import Collection
from pathlib import Path

from serving.archive import ArchiveError

MOST_FILES = 10_000
MOST_BYTES = 16 << 30  # of all files, unpacked
USUAL_BYTES = 256 << 20  # up to which any compression is believed
MOST_RATIO = 100  # of unpacked to packed bytes, beyond that; a network's weights hardly shrink


def check_zip(path: Path) -> None:
    """Check a file before another library unpacks it; one that is no zip passes, and its own reader looks at it.

    Raises:
        ArchiveError: it would expand beyond the limits.
    """
    try:
        with zipfile.ZipFile(path) as file:
            entries = file.infolist()
    except Exception:  # a zip's reader raises nearly any error on damaged bytes
        return
    check_entries(path, entries)


def check_entries(path: Path, entries: Collection[zipfile.ZipInfo]) -> None:
    """Check the entries of a zip; errors as of ``check_zip``."""
    size, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if len(entries) > MOST_FILES or size > MOST_BYTES or size > max(USUAL_BYTES, MOST_RATIO * packed):
        raise ArchiveError(
            f"{path} would become {len(entries):,} files of {size:,} bytes from {packed:,}: no model is packed so, and "
            "nothing is unpacked"
        )
