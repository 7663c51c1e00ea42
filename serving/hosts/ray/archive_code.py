"""An archive's own code: unpacked on this machine, loaded into this process, and asked through one function.

Nothing here imports a package ``handlers`` before the archive's folder is the first place that Python looks at.
"""

import importlib
import inspect
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import yaml

from serving.store.fetching import fetch

METRICS = "MARLOOP_RAY_METRICS"  # the variable with the folder of a node's metrics
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's, which the head gives to all replicas
MAX_BODY = 6_553_500  # bytes, as handlers.message has it
Handle = Callable[[Sequence[Any], Sequence[float]], list[Any]]


def measure_here(environ: MutableMapping[str, str]) -> None:
    """Have a replica that measures write into the folder of its own node, whose exporter reads that one.

    prometheus_client looks the folder up when a metric is made.
    """
    if MULTIPROCESS in environ and METRICS in environ:
        environ[MULTIPROCESS] = environ[METRICS]


def unpacked(archive: str, sha256: str, cache: Path) -> Path:
    """Return the folder of an archive's content on this machine, fetched and unpacked unless it is there.

    The folder is renamed into place when it is whole, so that none is ever half there.

    Raises:
        ArchiveError: it is not there, or has another SHA-256.
    """
    file, target = fetch(archive, sha256, cache), cache / sha256
    if target.is_dir():
        return target
    draft = Path(tempfile.mkdtemp(dir=cache, prefix=".unpacking-"))
    try:
        with zipfile.ZipFile(file) as content:
            content.extractall(draft)
        draft.chmod(0o700)
        os.replace(draft, target)
    except OSError:
        if not target.is_dir():  # else another replica was quicker
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def settings_of(folder: Path) -> dict[str, Any]:
    """Return the settings of an unpacked archive."""
    return yaml.safe_load((folder / "model-config.yaml").read_bytes()) or {}


def load(folder: Path, config: Mapping[str, Any]) -> Any:
    """Return the service of an unpacked archive, loaded by the archive's own code.

    Raises:
        RuntimeError: another archive's handlers are loaded here, or its entry point does not have one service.
    """
    if "handlers" in sys.modules:
        raise RuntimeError(f"{sys.modules['handlers'].__file__} is loaded here: a process has one archive's handlers")
    sys.path.insert(0, str(folder))
    manifest = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_bytes())
    module = importlib.import_module(Path(manifest["model"]["handler"]).stem)
    service = service_of(module)()
    service.initialize(
        SimpleNamespace(system_properties={"model_dir": str(folder)}, model_yaml_config=config, model_name=None)
    )
    return service


def service_of(module: ModuleType) -> Any:
    """Return the one class of an entry point beside what it imports.

    Raises:
        RuntimeError: it has none, or several.
    """
    kinds = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
    if len(kinds) != 1:
        raise RuntimeError(f"{module.__name__}.py must have one class, the service, not {len(kinds)}")
    return kinds[0]


def with_threads(config: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Return an archive's settings with a number of threads, unless they name one or a language model's engine."""
    settings = dict(config.get("handler") or {})
    if not config.get("continuousBatching"):
        settings.setdefault("threads", threads)
    return {**config, "handler": settings}


def core_of(service: Any) -> Any:
    """Return the core of a service: ``handle`` answers requests, and a language model's has ``idle``.

    Archives that were packed before there was a public core have a private one. A handler from elsewhere has none: it
    is called as TorchServe calls it.
    """
    for name in ("handler", "_handler"):
        if hasattr(core := getattr(service, name, None), "handle"):
            return core
    return Called(service)


def handle_of(core: Any) -> Handle:
    """Return the function that answers a batch; older cores do not take the seconds that each request waited."""
    handle = core.handle
    if len(inspect.signature(handle).parameters) > 1:
        return handle  # type: ignore[no-any-return]
    return lambda requests, waited: handle(requests)


def messages_of() -> Any:
    """Return the archive's module of requests and responses.

    Where it has none, or one of a former release without all that a replica needs, what is here takes its place.
    """
    here = SimpleNamespace(
        Request=Request, Part=Part, InputError=Fault, MAX_BODY=MAX_BODY, error_response=error_response
    )
    try:
        archives = importlib.import_module("handlers.message")
    except ModuleNotFoundError:
        return here
    if all(hasattr(archives, name) for name in vars(here)):
        return archives
    here.Request = lambda *fields: archives.Request(*fields[: len(archives.Request._fields)])
    return here


class Part(NamedTuple):
    """A query parameter."""

    name: str
    body: bytes


class Request(NamedTuple):
    """A request of an archive without a core."""

    body: bytes
    headers: Mapping[str, str]
    form: Mapping[str, bytes] = {}
    id: str = ""
    parts: tuple[Part, ...] = ()


class Answer(NamedTuple):
    """A response of an archive without a core."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


class Fault(Exception):  # noqa: N818 - as a core has it
    """A request that cannot be answered: a code, and a message that names the fault."""

    def __init__(self, code: str, message: str, path: str = "$", expected: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.path, self.expected = code, message, path, expected

    @property
    def status(self) -> int:
        """Its status of HTTP."""
        return 413 if self.code == "too_large" else 503


def error_response(error: Fault, request: Request, as_text: bool = False) -> Answer:
    """Return the response to a fault."""
    detail = {"code": error.code, "message": error.message, "path": error.path, "expected": error.expected}
    return Answer(error.status, json.dumps({"error": {**detail, "request_id": request.id}}).encode())


class Called:
    """The core of a handler from elsewhere, which is called as TorchServe 0.12.0 calls it (``ts/service.py``)."""

    contract = SimpleNamespace(task="opaque")

    def __init__(self, service: Any) -> None:
        self._service = service

    def handle(self, requests: Sequence[Request], waited: Sequence[float] = ()) -> list[Answer]:
        """Answer a batch."""
        context = Context(requests)
        data = [dict(request.form) | {"body": request.body} for request in requests]
        try:
            bodies = self._service.handle(data, context)
        except Exception as error:
            fault = json.dumps({"error": {"code": "internal", "message": f"{type(error).__name__}: {error}"}})
            return [Answer(500, fault.encode()) for _ in requests]
        return [context.answer(i, body) for i, body in enumerate(bodies)]


class Context:
    """TorchServe's context of a batch: what handlers ask of it, and tell it."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = requests
        self._statuses: dict[int, int] = {}
        self._headers: dict[int, dict[str, str]] = {}

    def get_all_request_header(self, idx: int) -> Mapping[str, str]:
        """Return the headers of a request."""
        return self._requests[idx].headers

    def get_request_header(self, idx: int, key: str) -> str | None:
        """Return a header of a request."""
        return self._requests[idx].headers.get(key.lower())

    def get_request_id(self, idx: int = 0) -> str:
        """Return the id of a request."""
        return self._requests[idx].id

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status of an answer."""
        self._statuses[idx] = code

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the content type of an answer."""
        self.set_response_header(idx, "content-type", value)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a header of an answer."""
        self._headers.setdefault(idx, {})[key.lower()] = value

    def answer(self, idx: int, body: Any) -> Answer:
        """Return an answer, whose body is as TorchServe writes what a handler returns."""
        headers = dict(self._headers.get(idx, {}))
        if isinstance(body, str):
            content = body.encode()
        else:
            content = bytes(body) if isinstance(body, bytes | bytearray) else json.dumps(body).encode()
        kind = headers.pop("content-type", "application/json")
        return Answer(self._statuses.get(idx, 200), content, kind, headers)
