"""Getting data: where it may already be, checked against its SHA-256, with a way out in every error."""

import hashlib
import importlib.util
from pathlib import Path


class DataError(Exception):
    """Data is missing or not what it should be; the message says how to get it."""


def sha256(*contents: bytes) -> str:
    """The SHA-256 of some bytes, one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def check_sha256(content: bytes, expected: str, source: object) -> bytes:
    """Return the content if its SHA-256 is as expected.

    Raises:
        DataError: it differs; names the source and both sums.
    """
    found = sha256(content)
    if found != expected:
        raise DataError(f"{source}: its SHA-256 is {found}, not {expected}: delete it and get it again")
    return content


def package_file(package: str, path: str, requirement: str) -> Path:
    """The path of a file inside an installed package, without importing the package.

    Raises:
        DataError: the package or the file is not there; says what to install.
    """
    spec = importlib.util.find_spec(package)
    for location in spec.submodule_search_locations or [] if spec else []:
        if (Path(location) / path).is_file():
            return Path(location) / path
    raise DataError(f"{path} of the package {package} is not there: run `pip install {requirement}`")
