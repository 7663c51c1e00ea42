"""The archive: a ``.mar`` (a zip that TorchServe loads) with graph, contract, handler, settings and requirements.

It needs this repository for nothing: the handlers are packed inside.
"""

import importlib
import importlib.metadata
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

import handlers
from handlers.contract import ModelContract
from handlers.formats.codec import Codec
from serving import documents
from training.recipe import Recipe, Serving

REQUIREMENTS = ("msgspec", "orjson", "numpy", "prometheus-client")  # of every archive
CHAT = "chat"  # the entry point of language models, which have no graphs
ENGINES = ("onnxruntime", "torch")  # of every archive with graphs
ENTRY_POINTS: dict[str, tuple[str, ...]] = {  # and theirs
    "tabular": ENGINES,
    "image": (*ENGINES, "pillow"),
    "text": (*ENGINES, "tokenizers"),
    CHAT: ("jinja2",),
}
ENTRIES = "entry_points"  # folder of the handlers' package, of which an archive has one module
ASSETS = "assets"  # folder of the files that an entry point's codec needs
GRAPHS = ("model.onnx", "model.pt2")
RESPONSE_TIMEOUT = 30  # s, of settings that name none
QUANTIZED = (".gguf", ".bin")  # weights that compression makes hardly smaller
MANIFEST, CONFIG = "MAR-INF/MANIFEST.json", "model-config.yaml"


def build(recipe: Recipe, contract: ModelContract, graphs: Path, serving: Serving) -> bytes:  # type: ignore[type-arg]
    """Pack an archive of graphs.

    Args:
        recipe: names the entry point.
        contract: complete.
        graphs: a folder with ``model.onnx`` and ``model.pt2``, and maybe a folder ``assets``.
        serving: how TorchServe runs it.
    """
    files = {name: (graphs / name).read_bytes() for name in GRAPHS}
    files |= {f"{ASSETS}/{path.name}": path.read_bytes() for path in sorted((graphs / ASSETS).glob("*"))}
    return pack(contract, recipe.entry_point, recipe.description, model_config(serving), files)


def pack(
    contract: ModelContract,
    entry_point: str,
    description: str,
    config: bytes,
    files: Mapping[str, bytes],
    requirements: Sequence[str] = (),
) -> bytes:
    """Pack an archive; the same content gives the same bytes.

    Args:
        contract: complete.
        entry_point: a key of ``ENTRY_POINTS``.
        description: of the model, in a line.
        config: ``model-config.yaml``.
        files: the model's own.
        requirements: packages that its worker needs beside those of the entry point.
    """
    source = Path(handlers.__file__).parent
    script = f"{entry_point}.py"
    content = {
        MANIFEST: _manifest(contract, script, description),
        "contract.json": documents.to_json(contract, ModelContract),
        CONFIG: config,
        "requirements.txt": _requirements((*REQUIREMENTS, *ENTRY_POINTS[entry_point], *requirements)),
        # TorchServe imports the entry point by its bare name, so it stands at the top; it finds the rest as a package.
        script: (source / ENTRIES / script).read_bytes(),
        **files,
    }
    core = [path for path in sorted(source.rglob("*.py")) if path.parent.name != ENTRIES]
    content |= {f"handlers/{path.relative_to(source).as_posix()}": path.read_bytes() for path in core}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in content.items():
            method = zipfile.ZIP_STORED if Path(name).suffix in QUANTIZED else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def model_config(serving: Serving) -> bytes:
    """``model-config.yaml``: TorchServe's settings for the model, and ours under ``handler``."""
    settings = {
        "minWorkers": serving.workers,
        "maxWorkers": serving.workers,
        "batchSize": serving.batch_size,
        "maxBatchDelay": serving.max_batch_delay,
        "responseTimeout": serving.response_timeout or RESPONSE_TIMEOUT,
        "handler": {"engine": serving.engine, "max_rows": serving.max_rows, "threads": serving.threads},
    }
    return yaml.safe_dump(settings, sort_keys=False).encode()


def codec_of(entry_point: str) -> type[Codec]:
    """The wire formats of an entry point.

    Args:
        entry_point: a key of ``ENTRY_POINTS``.

    Raises:
        ValueError: there is no such entry point, or it reads no tensors.
    """
    reading = [name for name in ENTRY_POINTS if name != CHAT]
    if entry_point not in reading:
        raise ValueError(f"the entry point is {entry_point!r}; it must be one of {', '.join(reading)}")
    module = importlib.import_module(f"handlers.{ENTRIES}.{entry_point}")
    codec: type[Codec] = getattr(module, f"{entry_point.title()}Service").codec
    return codec


def _manifest(contract: ModelContract, entry_point: str, description: str) -> bytes:
    manifest = {
        "createdOn": contract.lineage.get("created", ""),
        "runtime": "python",
        "archiverVersion": "marloop",
        "description": description,
        "model": {
            "modelName": contract.name,
            "modelVersion": contract.version,
            "handler": entry_point,
            "requirementsFile": "requirements.txt",
            "configFile": CONFIG,
        },
    }
    return json.dumps(manifest, indent=1).encode()


def _requirements(names: Sequence[str]) -> bytes:
    # Without "+cpu" and its like, which only one index knows.
    lines = [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]
    return "\n".join(lines).encode() + b"\n"
