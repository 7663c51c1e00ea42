"""``.env`` of the checkout: settings for every command, beside the environment, which wins.

docker compose and make read such a file too, and each of them reads quotes, ``#``, ``$``, ``\\`` and blanks at the ends
in a way of its own. So a line is taken only if all of them read it alike, and refused with its number otherwise.
"""

import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path

VARIABLE = "MARLOOP_ENV_FILE"  # another path, relative to the checkout, or off
OFF = "off"
_LINE = re.compile(r"(?:export )?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
# What somebody reads in a way of their own, and how that is said.
_UNLIKE = {
    "'": "a quote, which docker compose takes away and make keeps",
    '"': "a quote, which docker compose takes away and make keeps",
    "`": "a quote, which shells run",
    "#": "a #, behind which make reads nothing",
    "$": "a $, which make and docker compose replace",
    "\\": "a backslash, which docker compose and make read differently",
}


class EnvFileError(ValueError):
    """The file cannot be read, or a line of it would be read differently by others; names the line."""


def load(environ: MutableMapping[str, str], root: Path) -> None:
    """Add what the file of a checkout says to an environment, which wins where it has the variable, even an empty one.

    Args:
        environ: is changed.
        root: the checkout.

    Raises:
        EnvFileError: see there; nothing was added.
    """
    if path := path_of(environ, root):
        for name, value in read(path).items():
            environ.setdefault(name, value)


def path_of(environ: Mapping[str, str], root: Path) -> Path | None:
    """The path of the file; None if there is none, or none is wanted."""
    named = environ.get(VARIABLE, "")
    path = root / (named or ".env")
    return None if named == OFF or (not named and not path.is_file()) else path


def read(path: Path) -> dict[str, str]:
    """Read a file.

    Raises:
        EnvFileError: it is not there, is no text, or has a line that is refused.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvFileError(f"{path} cannot be read: {error}") from error
    values = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line and not line.startswith("#"):
            try:
                name, value = _assignment(line)
            except EnvFileError as error:
                raise EnvFileError(
                    f"{path}, line {number}: {error}. Write NAME=value with a value that make and docker compose read "
                    "alike, or set the variable in the environment"
                ) from error
            values[name] = value
        elif line.endswith(("\\", "\r")):  # a comment that goes on in the next line, to make
            raise EnvFileError(f"{path}, line {number}: it ends with {_ending(line)}")
    return values


def _assignment(line: str) -> tuple[str, str]:
    """The name and the value of a line; the message of an error never has the value, which may be a secret."""
    if line.endswith("\r"):
        raise EnvFileError(f"it ends with {_ending(line)}")
    if line[0].isspace():
        raise EnvFileError("it begins with a blank")
    match = _LINE.fullmatch(line)
    if match is None:
        raise EnvFileError("it is no assignment NAME=value, with nothing beside the =")
    name, value = match.groups()
    for character, fault in _UNLIKE.items():
        if character in value:
            raise EnvFileError(f"the value of {name} has {fault}")
    if value != value.strip():
        raise EnvFileError(f"the value of {name} begins or ends with a blank, which make and docker compose differ in")
    if not value.isprintable():
        raise EnvFileError(f"the value of {name} has a control character")
    return name, value


def _ending(line: str) -> str:
    return "a carriage return, as files of Windows have it" if line.endswith("\r") else "a backslash"
