"""The archive: a ``.mar`` (a zip that TorchServe loads) with graph, contract, handler, settings and requirements.

It needs this repository for nothing: the handlers are packed inside.
"""

import importlib
import importlib.metadata
import io
import json
import zipfile
from pathlib import Path

import yaml

import handlers
from handlers.codec import Codec
from handlers.contract import ModelContract
from training.recipe import Recipe, Serving

REQUIREMENTS = (
    "msgspec",
    "orjson",
    "numpy",
    "onnxruntime",
    "prometheus-client",
    "torch",
)  # of every archive
ENTRY_POINTS: dict[str, tuple[str, ...]] = {"tabular": (), "image": ("pillow",), "text": ("tokenizers",)}  # and theirs
ASSETS = "assets"  # folder of the files that an entry point's codec needs
GRAPHS = ("model.onnx", "model.pt2")
MANIFEST, CONFIG = "MAR-INF/MANIFEST.json", "model-config.yaml"


def build(recipe: Recipe, contract: ModelContract, graphs: Path, serving: Serving) -> bytes:  # type: ignore[type-arg]
    """Pack an archive; the same content gives the same bytes.

    Args:
        recipe: names the entry point.
        contract: complete.
        graphs: a folder with ``model.onnx`` and ``model.pt2``, and maybe a folder ``assets``.
        serving: how TorchServe runs it.
    """
    source = Path(handlers.__file__).parent
    entry_point = f"{recipe.entry_point}.py"
    files = {
        MANIFEST: _manifest(contract, entry_point, recipe.description),
        "contract.json": contract.to_json(),
        CONFIG: model_config(serving),
        "requirements.txt": _requirements(recipe),
        # TorchServe imports the entry point by its bare name, so it stands at the top; it finds the rest as a package.
        entry_point: (source / entry_point).read_bytes(),
    }
    files |= {name: (graphs / name).read_bytes() for name in GRAPHS}
    files |= {f"{ASSETS}/{path.name}": path.read_bytes() for path in sorted((graphs / ASSETS).glob("*"))}
    core = [path for path in sorted(source.glob("*.py")) if path.stem not in ENTRY_POINTS]
    files |= {f"handlers/{path.name}": path.read_bytes() for path in core}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def model_config(serving: Serving) -> bytes:
    """``model-config.yaml``: TorchServe's settings for the model, and ours under ``handler``."""
    settings = {
        "minWorkers": serving.workers,
        "maxWorkers": serving.workers,
        "batchSize": serving.batch_size,
        "maxBatchDelay": serving.max_batch_delay,
        "responseTimeout": serving.response_timeout,
        "handler": {"engine": serving.engine, "max_rows": serving.max_rows, "threads": serving.threads},
    }
    return yaml.safe_dump(settings, sort_keys=False).encode()


def codec_of(entry_point: str) -> type[Codec]:
    """The wire formats of an entry point.

    Args:
        entry_point: a key of ``ENTRY_POINTS``.

    Raises:
        ValueError: there is no such entry point.
    """
    if entry_point not in ENTRY_POINTS:
        raise ValueError(f"the entry point is {entry_point!r}; it must be one of {', '.join(ENTRY_POINTS)}")
    module = importlib.import_module(f"handlers.{entry_point}")
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


def _requirements(recipe: Recipe) -> bytes:  # type: ignore[type-arg]
    names = REQUIREMENTS + ENTRY_POINTS[recipe.entry_point]
    # Without "+cpu" and its like, which only one index knows.
    lines = [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]
    return "\n".join(lines).encode() + b"\n"
