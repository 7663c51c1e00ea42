"""A handler that was written elsewhere for TorchServe, in a process of its own: its crash harms one request."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from handlers.contract import Array
from handlers.engine import hooks
from handlers.engine.child import Child
from handlers.engine.isolation import ChildError
from handlers.engine.torchserve_handler import serve
from handlers.message import Request, Response

FOLDER = "original"  # of an archive of ours, with the files of the other one
MANIFEST = "MAR-INF/MANIFEST.json"
TARGET = f"{serve.__module__}:{serve.__name__}"


class ForeignHandler:
    """Runs the handler of an archive.

    Args:
        directory: our archive, unpacked.
        name: of the model.
        batch_size: requests that it gets at once at most.
        patience: s that it may take for a batch.

    Raises:
        ValueError: packages that it needs are missing.
        RuntimeError: it cannot be imported, or raises in ``initialize``.
    """

    graph = "foreign.mar"  # the file that its lineage names

    def __init__(self, directory: Path, name: str, batch_size: int, patience: float) -> None:
        folder, self._patience = directory / FOLDER, patience
        about = read_manifest(folder)
        if (required := about.get("requirementsFile")) and (absent := hooks.absent(folder / required)):
            raise ValueError(f"its {required} names what is not installed: pip install {' '.join(absent)}")
        try:
            arguments = {"folder": str(folder.resolve()), "name": name, "about": about, "batch_size": batch_size}
            self._child = Child(TARGET, arguments)
        except ChildError as error:
            raise RuntimeError(f"its handler {about['handler']} does not load: {error}") from error

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Answer a batch of whole requests by whole responses.

        Raises:
            ChildError: the handler raised, ended or took too long.
            RuntimeError: it answered with a status that HTTP does not know.
        """
        (requests,) = tensors.values()
        answers = self._child.ask([message_of(request) for request in requests], self._patience)
        responses = np.empty(len(answers), object)
        for i, (status, content_type, headers, body) in enumerate(answers):
            responses[i] = Response(_known(status), body, content_type, headers)
        return {"answer": responses}

    def close(self) -> None:
        """End its process."""
        self._child.close()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the member ``model`` of the manifest in an unpacked archive of TorchServe's."""
    about: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())["model"]
    return about


def message_of(request: Request) -> dict[str, Any]:
    """Return a request as the child gets it: each part with its content type, the body among them."""
    parts: Sequence[tuple[str, str, bytes]] = [(part.name, part.content_type, part.body) for part in request.parts]
    if request.body or not parts:
        parts = [("body", request.media_type, request.body), *parts]
    return {"id": request.id, "headers": dict(request.headers), "parts": parts}


def _known(status: int) -> int:
    try:
        return HTTPStatus(status).value
    except ValueError as error:
        raise RuntimeError(f"its handler set the status {status}, which HTTP does not know") from error
