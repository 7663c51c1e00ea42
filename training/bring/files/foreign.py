"""An archive that ``torch-model-archiver`` made elsewhere: served as it is, by its handler in a process of its own."""

import hashlib
import importlib.metadata
import mimetypes
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from handlers.contract import Example, ModelContract, TensorSpec
from handlers.contract.example import opaque_example
from handlers.contract.model_card import Evaluation, Imported, Lineage, Reference
from handlers.engine.foreign import FOLDER, ForeignHandler
from handlers.formats.opaque import OpaqueCodec
from handlers.handler import ModelHandler
from handlers.message import Request
from serving import archive as own
from serving.archive.autoscaling import with_autoscaling
from serving.archive.foreign import ForeignArchive
from serving.registry import Registry
from training.bring.graph import BringError
from training.packaging import contents
from training.packaging.lineage import with_lineage
from training.packaging.registration import Promote, Result, register

PATIENCE = 60.0  # s for the example
RESPONSE_TIMEOUT = 120  # s, TorchServe's own
TYPES = {".json": "application/json", ".txt": "text/plain", ".npy": "application/x-npy"}
# What a user has of a model without a contract, and what one would add.
ADDED = (
    ("routes", "/predictions/{name}, any body", "KServe v1, Open Inference Protocol, gRPC, .npy"),
    ("a wrong request", "what its handler makes of it", "an error that names the place and what would be right"),
    ("OpenAPI, console", "the example", "a field for each input, with its range and categories"),
    ("load test", "the example, again and again", "requests drawn from the data, at the limits, and wrong ones"),
    ("metrics", "requests, times, batches, memory", "answers by class or by value"),
    ("drift, live quality", "none", "both, with feedback"),
    ("a better version", "promoted by hand", "found by its metrics"),
)


@dataclass(frozen=True, kw_only=True)
class ForeignOptions:
    """What is given beside the archive.

    Attributes:
        example: file of a request's body; the answer to it is the one that probes expect.
        trust: whether its handler, which is code, may run.
    """

    name: str
    example: Path | None = None
    trust: bool = False
    promote: Promote = "auto"


def bring_foreign(
    archive: ForeignArchive,
    registry: Registry,
    options: ForeignOptions,
    step: Callable[[str], None] = lambda text: None,
) -> Result:
    """Ask an archive's handler, package and register it as a new version.

    Raises:
        ArchiveError: it cannot be loaded from what is packed.
        BringError: its handler may not run, does not load, or does not answer the example; nothing is registered.
    """
    file = archive.path
    if not options.trust:
        raise BringError(
            f"{file.name} is served by its handler {archive.about.handler}, code that runs now and in each worker: "
            "--trust allows it, if you trust its author"
        )
    if options.example is None:
        raise BringError("nobody knows what its handler takes: give the body of a request that it answers by --example")
    body, kind = options.example.read_bytes(), _content_type(options.example)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    config = _config(archive)
    contract = _contract(options.name, _lineage(file, sha256, archive))
    step(f"loading its handler {archive.about.handler}")
    with tempfile.TemporaryDirectory() as folder:
        _unpack(archive, Path(folder, FOLDER))
        example = _example(contract, Path(folder), config["batchSize"], body, kind)
    if not example.response:
        step("it answers the same request otherwise each time: probes look at the status alone")
    contract = msgspec.structs.replace(contract, example=example)
    step("packaging and registering")
    files = {f"{FOLDER}/{name}": content for name, content in archive.files.items()}
    pack = _packing(f"imported from {file.name}", config, files)
    return register(contract, pack, registry, options.promote)


def package_foreign(name: str, registry: Registry, changes: Mapping[str, int], replicas: Mapping[str, float]) -> Result:
    """Package a champion's files again as a new champion, with other settings and the handlers of this Marloop.

    Args:
        changes: settings of TorchServe.
        replicas: numbers of ``Autoscaling``.

    Raises:
        ArchiveError: there is no champion, its archive is not as registered, or it does not load so.
        ValueError: a number is out of its range.
    """
    from training.champion import check_rewritable  # torch takes seconds to load

    version = registry.champion(name).version
    check_rewritable(registry, version)
    contract, path = registry.contract(version), registry.archive(version)
    config = with_autoscaling(own.read_config(path) | dict(changes), replicas)
    config["handler"] = {"max_rows": config["batchSize"]}
    files = {file: own.read_file(path, file) for file in own.names(path) if file.startswith(f"{FOLDER}/")}
    draft = with_lineage(contract, packaged_from=contract.version)
    return register(draft, _packing(own.description(path), config, files), registry, "always")


def _packing(
    description: str, config: Mapping[str, Any], files: Mapping[str, bytes]
) -> Callable[[ModelContract], bytes]:
    return lambda contract: contents.pack(contract, contents.FOREIGN, description, config, files)


def describe(archive: ForeignArchive) -> str:
    """Return a line about an archive."""
    about = archive.about
    size = sum(map(len, archive.files.values()))
    which = " ".join(filter(None, (about.model_name, about.model_version)))
    files = f"{len(archive.files):,} files, {size:,} bytes"
    return f"{archive.path.name}: TorchServe's archive of {which or 'a model'}, handler {about.handler}, {files}"


def added(name: str) -> list[tuple[str, str, str]]:
    """Return the table of what a contract would add: rows of a subject, what there is, and what there would be."""
    return [("", "as it is", "with a contract"), *((what, now.format(name=name), then) for what, now, then in ADDED)]


def _content_type(path: Path) -> str:
    return TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _unpack(archive: ForeignArchive, folder: Path) -> None:
    for name, content in archive.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _example(contract: ModelContract, folder: Path, batch_size: int, body: bytes, kind: str) -> Example:
    """Ask a handler the same twice, and return the example.

    Raises:
        BringError: it does not load, or does not answer with 200.
    """
    try:
        engine = ForeignHandler(folder, contract.name, batch_size, PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise BringError(str(error)) from error
    try:
        handler = ModelHandler(contract, engine, OpaqueCodec(contract, batch_size), observers=())
        answers = []
        for _ in range(2):
            (response,) = handler.handle([Request(body, {"content-type": kind}, id="example")])
            if response.status != 200:
                why = response.cause or response.body.decode("utf-8", "replace")
                raise BringError(f"it answers the example ({kind}) with {response.status}: {why}")
            answers.append(response.body)
        return opaque_example(body, kind, (answers[0], answers[1]))
    finally:
        engine.close()


def _config(archive: ForeignArchive) -> dict[str, Any]:
    """Return TorchServe's settings: the archive's own, else those that TorchServe would take."""
    settings = archive.settings
    workers = settings.get("minWorkers", 1)
    return {
        "minWorkers": workers,
        "maxWorkers": max(workers, settings.get("maxWorkers", workers)),
        "batchSize": settings.get("batchSize", 1),
        "maxBatchDelay": settings.get("maxBatchDelay", 100),
        "responseTimeout": settings.get("responseTimeout", RESPONSE_TIMEOUT),
        "handler": {"max_rows": settings.get("batchSize", 1)},
    }


def _contract(name: str, lineage: Lineage) -> ModelContract:
    return ModelContract(
        name=name,
        version="",
        task="opaque",
        inputs=(TensorSpec("body", "BYTES", description="a request as its handler takes it"),),
        outputs=(TensorSpec("answer", "BYTES", description="what its handler makes of it"),),
        labels=(),
        example=Example({}, {}),
        reference=Reference(),
        evaluation=Evaluation(),
        lineage=lineage,
    )


def _lineage(file: Path, sha256: str, archive: ForeignArchive) -> Lineage:
    return Lineage(
        imported=Imported(file.name, sha256, f"TorchServe's archive, handler {archive.about.handler}", 0),
        graph_sha256={ForeignHandler.graph: sha256},
        packages={"torchserve": importlib.metadata.version("torchserve")},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
