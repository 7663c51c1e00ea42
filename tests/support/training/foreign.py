"""Archives as ``torch-model-archiver`` makes them, and handlers as people write them."""

import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# A class with TorchServe's two methods, which answers {"total": …} and does what it is told.
ADDER = """
import os
import time

class Adder:
    def initialize(self, context):
        self.folder = context.system_properties["model_dir"]
        self.offset = int(open(os.path.join(self.folder, "offset.txt")).read())

    def handle(self, data, context):
        return [self.answer(row.get("body"), context, i) for i, row in enumerate(data)]

    def answer(self, body, context, i):
        order = body.get("order") if isinstance(body, dict) else None
        if order == "crash":
            os._exit(1)
        if order == "raise":
            raise ValueError("it was told to")
        if order == "hang":
            time.sleep(3600)
        if order == "status":
            context.set_response_status(code=418, phrase="I'm a Teapot", idx=i)
        if order == "picture":
            context.set_response_content_type(i, "image/png")
            context.set_response_header(i, "X-Made-By", "hand")
            context.set_response_header(i, "Content-Length", "999")
            return b"\\x89PNG"
        if order == "headers":
            return {"mine": context.get_request_header(i, "X-Mine"), "pid": os.getpid()}
        if not isinstance(body, dict):
            return f"{type(body).__name__} of {len(body)}"
        context.metrics.add_counter("Additions", 1)
        return {"total": self.offset + sum(body["numbers"])}
"""
CLOCK = """
import os

class Clock:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        return [{"at": os.urandom(4).hex()} for row in data]
"""
# A function, and a file of the archive beside it that is called as a package of ours.
FUNCTION = """
from handlers import OFFSET
loaded = []

def add(data, context):
    if data is None:
        loaded.append(context.manifest["model"]["modelName"])
        return None
    return [{"total": OFFSET + sum(row["body"]["numbers"]), "loaded": loaded} for row in data]
"""
# TorchServe's own base class, whose network is TorchScript.
BASED = """
import torch
from ts.torch_handler.base_handler import BaseHandler

class Doubler(BaseHandler):
    def preprocess(self, data):
        return torch.tensor([row.get("body")["x"] for row in data], dtype=torch.float32)
"""
MANIFEST = "MAR-INF/MANIFEST.json"


def manifest(handler: str, **model: str) -> bytes:
    """A manifest as ``torch-model-archiver`` writes it."""
    about = {"modelName": "adder", "handler": handler, "modelVersion": "2.1"} | model
    whole: dict[str, Any] = {"createdOn": "29/11/2026 12:00:00", "runtime": "python", "model": about}
    return json.dumps(whole | {"archiverVersion": "0.12.0"}, indent=2).encode()


def save(path: Path, files: Mapping[str, Any]) -> Path:
    """Write a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def adder(path: Path, offset: int = 0, handler: str = ADDER, **model: str) -> Path:
    """Write the archive of an adder."""
    files = {"adder.py": handler, "offset.txt": str(offset), MANIFEST: manifest("adder.py", **model)}
    return save(path, files)


def doubler(path: Path, handler: str = "doubler.py") -> Path:
    """Write the archive of a network in TorchScript that doubles, behind TorchServe's base class."""
    import torch

    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    network = script(Double(), path)
    own = {"doubler.py": BASED} if handler == "doubler.py" else {}
    about = manifest(handler, serializedFile=network.name)
    return save(path, {**own, network.name: network.read_bytes(), MANIFEST: about})


def script(module: Any, path: Path) -> Path:
    """Save a module as TorchScript beside an archive."""
    import torch

    network = path.with_suffix(".pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # people have such files
        torch.jit.script(module).save(str(network))
    return network


def classifier(path: Path) -> Path:
    """Write the archive of a tiny network in TorchScript, for TorchServe's own ``image_classifier``."""
    import torch

    torch.manual_seed(0)
    layers = (torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 5))
    network = script(torch.nn.Sequential(*layers).eval(), path)
    names = json.dumps({str(i): name for i, name in enumerate(("ant", "bee", "cat", "dog", "eel"))})
    about = manifest("image_classifier", serializedFile=network.name)
    return save(path, {network.name: network.read_bytes(), "index_to_name.json": names, MANIFEST: about})
