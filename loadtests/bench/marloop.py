"""Marloop as a contender: the champion's archive with a profile's settings, and the command that serves it."""

import io
import json
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from loadtests.bench.processes import free_ports
from serving.registry import Registry, Version, file_sha256
from serving.settings import Settings

COMMAND = [sys.executable, "-m", "serving", "launch"]
BARE = Path(__file__).parent / "bare_handler.py"
# Settings of model-config.yaml that a profile changes; throughput is as the archive was packed.
PROFILES: dict[str, dict[str, int]] = {
    "throughput": {},
    "latency": {"batchSize": 1},
    "bare": {},
}


def settings(port: int, store: Path, run_dir: Path) -> Settings:
    """Settings on free ports beside the given inference port."""
    management, metrics, grpc_inference, grpc_management = free_ports(4)
    return Settings(
        inference_port=port,
        management_port=management,
        metrics_port=metrics,
        grpc_inference_port=grpc_inference,
        grpc_management_port=grpc_management,
        model_store=store,
        run_dir=run_dir,
    )


def forget(run_dir: Path) -> None:
    """Remove what a service with this run folder left outside of it: its metric files, which lie in memory."""
    shutil.rmtree(Settings(run_dir=run_dir).metrics, ignore_errors=True)


def unpack(registry: Registry, model: str, folder: Path) -> Path:
    """The champion's graphs, contract and archive, in a folder as peers take it.

    Raises:
        ArchiveError: the archive is missing or altered.
        KeyError: the model has no champion.
    """
    version = registry.champions()[model][1]
    path = registry.verify(version)
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path) as archive:
        for name in ("model.onnx", "model.pt2", "contract.json"):
            (folder / name).write_bytes(archive.read(name))
    (folder / "champion.mar").write_bytes(path.read_bytes())
    (folder / "version.json").write_bytes(msgspec.json.encode(version))
    return folder


def repacked(model: Path, profile: str, store: Path) -> Path:
    """A model store that holds one archive, the champion's with a profile's settings.

    Args:
        model: a folder made by ``unpack``.
        profile: a key of ``PROFILES``; with ``bare`` the archive gets the handler that checks nothing.
        store: is made.
    """
    with zipfile.ZipFile(model / "champion.mar") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = yaml.safe_load(files["model-config.yaml"]) | PROFILES[profile]
    files["model-config.yaml"] = yaml.safe_dump(config, sort_keys=False).encode()
    if profile == "bare":
        manifest = json.loads(files["MAR-INF/MANIFEST.json"])
        manifest["model"]["handler"] = BARE.name
        files |= {"MAR-INF/MANIFEST.json": json.dumps(manifest).encode(), BARE.name: BARE.read_bytes()}
    version = msgspec.json.decode((model / "version.json").read_bytes(), type=Version)
    store.mkdir(parents=True)
    (store / version.archive).write_bytes(_zipped(files))
    contract = json.loads(files["contract.json"])
    with Registry(store).change() as models:
        changed = msgspec.structs.replace(version, sha256=file_sha256(store / version.archive))
        models[contract["name"]] = {contract["version"]: changed}
    return store


def serving_settings(model: Path) -> Mapping[str, Any]:
    """``model-config.yaml`` of the champion."""
    with zipfile.ZipFile(model / "champion.mar") as archive:
        found: Mapping[str, Any] = yaml.safe_load(archive.read("model-config.yaml"))
    return found


def _zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
