"""Archives of ``torch-model-archiver`` from elsewhere: read within limits, and told of where one lies unregistered."""

import importlib.util
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import yaml

from handlers.engine.foreign import MANIFEST
from serving.archive import CONTRACT, ArchiveError
from serving.archive.limits import check_entries
from serving.registry import Registry

SETTINGS = ("batchSize", "maxBatchDelay", "minWorkers", "maxWorkers", "responseTimeout")  # that its config may have


class About(msgspec.Struct, frozen=True, rename="camel"):
    """The member ``model`` of a manifest."""

    handler: str
    model_name: str = ""
    model_version: str = ""
    requirements_file: str = ""
    config_file: str = ""


class _Manifest(msgspec.Struct, frozen=True):
    model: About
    runtime: str = "python"


@dataclass(frozen=True)
class ForeignArchive:
    """An archive from elsewhere.

    Attributes:
        files: their content, by path.
        settings: those of its configuration that TorchServe takes from it.
    """

    path: Path
    about: About
    files: Mapping[str, bytes]
    settings: Mapping[str, int]


def read_foreign(path: Path) -> ForeignArchive:
    """Read an archive, and check that its manifest and its handler are there.

    Raises:
        ArchiveError: it is damaged, expands beyond the limits, names files outside itself, is Marloop's own, or lacks
            what TorchServe needs; says what.
    """
    files = _read_files(path)
    if CONTRACT in files and MANIFEST in files and b'"marloop"' in files[MANIFEST]:
        raise ArchiveError(f"{path} was packed by Marloop: it comes in with its store, registry.json included")
    if MANIFEST not in files:
        raise ArchiveError(f"{path} has no {MANIFEST}: torch-model-archiver did not make it")
    try:
        manifest = msgspec.json.decode(files[MANIFEST], type=_Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{path}: its {MANIFEST} is no manifest of TorchServe's: {error}") from error
    if not manifest.runtime.lower().startswith("python"):
        raise ArchiveError(f"{path}: its runtime is {manifest.runtime}; only Python runs here")
    about = manifest.model
    for name in (about.requirements_file, about.config_file):
        if name and name not in files:
            raise ArchiveError(f"{path}: its manifest names {name}, which is not in it")
    _check_handler(path, about.handler, files)
    return ForeignArchive(path, about, files, _settings(path, files.get(about.config_file, b"")))


def strays(registry: Registry) -> Iterator[str]:
    """Yield a sentence about each foreign archive that lies in the model store, where nothing serves it.

    Raises:
        ArchiveError: the registry is damaged.
    """
    registered = {version.archive for versions in registry.models().values() for version in versions.values()}
    for path in sorted(registry.store.glob("*.mar")):
        if path.name not in registered and _is_foreign(path):
            yield (
                f"{path} is not served: it was made elsewhere, and lying here is not enough. "
                f"`marloop import {path} --name NAME --trust --example REQUEST_FILE` brings it in"
            )


def _is_foreign(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return CONTRACT not in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _read_files(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as file:
            entries = [entry for entry in file.infolist() if not entry.is_dir()]
            _check_names(path, entries)
            check_entries(path, entries)
            return {entry.filename: file.read(entry) for entry in entries}
    except ArchiveError:
        raise
    except Exception as error:  # a zip's reader raises nearly any error on damaged bytes
        raise ArchiveError(f"{path} cannot be read: {error or type(error).__name__}") from error


def _check_names(path: Path, entries: Collection[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    for name in names:
        parts = PurePosixPath(name).parts
        if name.startswith("/") or "\\" in name or ".." in parts or ":" in parts[0]:
            raise ArchiveError(f"{path} names {name!r}, a file outside itself: nothing is read of it")
    if len(set(names)) < len(names):
        raise ArchiveError(f"{path} has a file twice: {next(name for name in names if names.count(name) > 1)}")


def _check_handler(path: Path, handler: str, files: Mapping[str, bytes]) -> None:
    """Raise unless a handler is a file of the archive, or one of TorchServe's own."""
    name = Path(handler.partition(":")[0]).name.removesuffix(".py")
    if f"{name}.py" in files:
        return
    torchserve = importlib.util.find_spec("ts")
    if torchserve is None or not torchserve.submodule_search_locations:
        raise ArchiveError(f"{path}: its handler {handler} is TorchServe's own: pip install torchserve")
    folder = Path(torchserve.submodule_search_locations[0]) / "torch_handler"
    stock = sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))
    if name not in stock:
        raise ArchiveError(
            f"{path}: its handler {handler!r} is no file in it, nor one of TorchServe's: {', '.join(stock)}"
        )


def _settings(path: Path, config: bytes) -> dict[str, int]:
    try:
        settings: Any = yaml.safe_load(config) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ArchiveError(f"{path}: its configuration is no YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ArchiveError(f"{path}: its configuration is a {type(settings).__name__}; it must be a mapping")
    return {name: settings[name] for name in SETTINGS if type(settings.get(name)) is int and settings[name] > 0}
