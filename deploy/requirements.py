"""Print the requirements of an image, a line each: ``python deploy/requirements.py torchserve|direct [EXTRA …]``."""

import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def requirements(document: dict[str, Any], image: str, extras: Sequence[str]) -> Iterator[str]:
    """Yield the requirements of an image.

    Args:
        document: pyproject.toml, parsed.
        image: torchserve, which has all of Marloop, or a dependency group.
        extras: of the project.

    Raises:
        KeyError: there is no such image or extra.
    """
    project = document["project"]
    if image == "torchserve":
        yield from project["dependencies"]
        extras = ["load", "postgres", *extras]
    else:
        yield from document["dependency-groups"][image]
    for extra in extras:
        yield from project["optional-dependencies"][extra]


if __name__ == "__main__":
    folders = Path(__file__).resolve().parents
    text = next(path for folder in folders if (path := folder / "pyproject.toml").is_file()).read_text()
    sys.stdout.writelines(f"{line}\n" for line in requirements(tomllib.loads(text), sys.argv[1], sys.argv[2:]))
