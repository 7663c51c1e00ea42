"""Print the requirements of an image, a line each: ``python deploy/requirements.py torchserve|direct [EXTRA …]``."""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
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
        yield from of_extra(project, extra)


def of_extra(project: Mapping[str, Any], extra: str) -> Iterator[str]:
    """Yield the requirements of an extra, and of those that it names: no index has the project itself.

    Raises:
        KeyError: there is no such extra.
    """
    for requirement in project["optional-dependencies"][extra]:
        if own := re.fullmatch(rf"{project['name']}\[([\w, -]+)\]", requirement):
            for name in own[1].split(","):
                yield from of_extra(project, name.strip())
        else:
            yield requirement


if __name__ == "__main__":
    folders = Path(__file__).resolve().parents
    text = next(path for folder in folders if (path := folder / "pyproject.toml").is_file()).read_text()
    sys.stdout.writelines(f"{line}\n" for line in requirements(tomllib.loads(text), sys.argv[1], sys.argv[2:]))
