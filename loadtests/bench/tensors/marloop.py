"""Marloop as a contender: the champion's archive with a profile's settings, and the command that serves it."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from loadtests.tune.candidates import Candidate, configured
from serving import archive
from serving.hosts.torchserve.profiles import PROFILES
from serving.registry import Registry, Version, file_sha256
from serving.settings import HostName, Settings, on_free_ports

COMMAND = [sys.executable, "-m", "serving", "launch"]
SUPERVISE = [sys.executable, "-m", "serving", "supervise"]
BARE = Path(__file__).parent / "bare_handler.py"


def settings(port: int, store: Path, run_dir: Path, host: HostName = "torchserve") -> Settings:
    """Return settings with this inference port and free ports for the rest."""
    return msgspec.structs.replace(on_free_ports(store, run_dir), inference_port=port, host=host)


def forget(run_dir: Path) -> None:
    """Remove the files that a service left outside of its run folder: its metric files, which lie in memory."""
    shutil.rmtree(Settings(run_dir=run_dir).metrics, ignore_errors=True)


def unpack(registry: Registry, model: str, folder: Path) -> Path:
    """Unpack the champion's graphs, contract and archive into a folder as peers take it.

    Raises:
        ArchiveError: the model has no champion, or its archive is missing or altered.
    """
    version = registry.champion(model).version
    path = registry.verify(version)
    folder.mkdir(parents=True, exist_ok=True)
    archive.unpack(path, folder, *archive.GRAPHS, archive.CONTRACT)
    (folder / "champion.mar").write_bytes(path.read_bytes())
    (folder / "version.json").write_bytes(msgspec.json.encode(version))
    return folder


def repacked(model: Path, profile: str, store: Path) -> Path:
    """Make a model store of one archive, the champion's with a profile's settings.

    Args:
        model: a folder made by ``unpack``.
        profile: ``latency``; ``throughput`` is as the champion was packed; ``bare`` too, but with the handler that
            checks nothing.
    """
    content = (model / "champion.mar").read_bytes()
    if profile == "latency":
        content = configured(content, replace(Candidate.of(content), **PROFILES[profile]))
    elif profile == "bare":
        content = archive.with_handler(content, BARE)
    version = msgspec.json.decode((model / "version.json").read_bytes(), type=Version)
    store.mkdir(parents=True)
    (store / version.archive).write_bytes(content)
    contract = archive.read_contract(content)
    with Registry(store).change() as models:
        changed = msgspec.structs.replace(version, sha256=file_sha256(store / version.archive))
        models[contract.name] = {contract.version: changed}
    return store


def serving_settings(model: Path) -> Mapping[str, Any]:
    """Return TorchServe's settings of the champion."""
    return archive.read_config(model / "champion.mar")
