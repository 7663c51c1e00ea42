"""Archives changed for a measurement: a copy with other settings or another handler, and the same model."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

CONFIG = "model-config.yaml"
MANIFEST = "MAR-INF/MANIFEST.json"


def read(archive: bytes, name: str) -> bytes:
    """One file of an archive.

    Raises:
        KeyError: it is not there.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return file.read(name)


def rewritten(archive: bytes, changes: Mapping[str, bytes]) -> bytes:
    """A copy in which some files have other content, or are new."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as former, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in former.namelist():
            if name not in changes:
                new.writestr(name, former.read(name))
        for name, content in changes.items():
            new.writestr(name, content)
    return buffer.getvalue()


def manifest_for(archive: bytes, handler: str) -> bytes:
    """The manifest with another handler: a file's name, with or without ``:function``."""
    manifest = json.loads(read(archive, MANIFEST))
    manifest["model"]["handler"] = handler
    return json.dumps(manifest).encode()


def with_handler(archive: bytes, handler: Path) -> bytes:
    """A copy that another handler serves."""
    return rewritten(archive, {MANIFEST: manifest_for(archive, handler.name), handler.name: handler.read_bytes()})
