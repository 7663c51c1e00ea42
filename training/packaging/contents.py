"""The contents of an archive: a recipe's parts, the packages of its worker, and TorchServe's settings."""

import ast
import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from handlers.contract import ModelContract
from handlers.engine.signature import read_signature
from handlers.formats.codec import Codec
from handlers.formats.image import ImageCodec
from handlers.formats.text import TextCodec
from serving import archive
from serving.archive import ASSETS, GRAPHS, HOOKS, KEPT, SIGNATURE
from serving.archive.autoscaling import autoscaling_of, with_autoscaling
from training.recipe import Serving

PACKAGES = ("msgspec", "orjson", "numpy", "prometheus-client")  # for every archive
CHAT = "chat"  # the entry point of language models, which have no graphs
FOREIGN = "foreign"  # that of handlers that were written elsewhere, which have whatever they have
ENGINES = ("onnxruntime", "torch")  # for every archive with graphs
ENTRY_POINTS: dict[str, tuple[str, ...]] = {  # packages by entry point, beside engines
    "tabular": (),
    "image": ("pillow",),
    "text": ("tokenizers",),
    CHAT: ("jinja2",),
    FOREIGN: ("torchserve", "pyyaml"),
}
CODECS: dict[str, type[Codec]] = {"tabular": Codec, "image": ImageCodec, "text": TextCodec}
RESPONSE_TIMEOUT = 30  # s, for settings that name none


class Described(Protocol):
    """A model as its archive describes it: a recipe, or the parts of an archive."""

    @property
    def description(self) -> str:
        """A line about it."""

    @property
    def entry_point(self) -> str:
        """A key of ``ENTRY_POINTS``."""


def build(model: Described, contract: ModelContract, graphs: Path, serving: Serving) -> bytes:
    """Pack an archive of graphs.

    Args:
        graphs: a folder with ``model.onnx``, ``model.pt2`` or both, or with a file that is served as it is and its
            signature; maybe ``hooks.py`` and a folder ``assets``.
    """
    names = (*GRAPHS, *KEPT, SIGNATURE, HOOKS)
    files = {name: (graphs / name).read_bytes() for name in names if (graphs / name).exists()}
    files |= {f"{ASSETS}/{path.name}": path.read_bytes() for path in sorted((graphs / ASSETS).glob("*"))}
    signature = read_signature(graphs)
    packages = list(signature.packages if signature else ENGINES)
    imported = imported_by(files[HOOKS]) if HOOKS in files else ()
    packages += [name for name in imported if name not in (*packages, *ENTRY_POINTS[model.entry_point])]
    return pack(contract, model.entry_point, model.description, model_config(serving), files, packages)


def pack(
    contract: ModelContract,
    entry_point: str,
    description: str,
    config: Mapping[str, Any],
    files: Mapping[str, bytes],
    packages: Sequence[str] = (),
) -> bytes:
    """Pack an archive with the packages of its entry point, in the versions that are installed.

    Args:
        entry_point: a key of ``ENTRY_POINTS``.
        description: a line about the model.
        config: as ``model_config`` returns it.
        files: the model's own.
        packages: further packages that its worker needs.
    """
    # Without "+cpu" and its like, which only one index knows.
    needed = (*PACKAGES, *ENTRY_POINTS[entry_point], *packages)
    requirements = [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in needed]
    return archive.pack(contract, entry_point, description, config, requirements, files)


def model_config(serving: Serving) -> dict[str, Any]:
    """Return TorchServe's settings for a model, and ours under ``handler`` and ``autoscaling``."""
    config = {
        "minWorkers": serving.workers,
        "maxWorkers": serving.workers,
        "batchSize": serving.batch_size,
        "maxBatchDelay": serving.max_batch_delay,
        "responseTimeout": serving.response_timeout or RESPONSE_TIMEOUT,
        "handler": {
            "engine": serving.engine,
            **({} if serving.device == "cpu" else {"device": serving.device}),
            **({"isolated": True} if serving.isolated else {}),
            "max_rows": serving.max_rows,
            "threads": serving.threads,
        },
    }
    return with_autoscaling(config, serving.autoscaling)


def serving_in(config: Mapping[str, Any]) -> Serving:
    """Return the settings that ``model_config`` wrote.

    Raises:
        ValueError: the numbers of replicas are wrong.
    """
    handler = config.get("handler") or {}
    return Serving(
        engine=handler.get("engine", Serving.engine),
        device=handler.get("device", Serving.device),
        isolated=handler.get("isolated", Serving.isolated),
        workers=config.get("minWorkers", Serving.workers),
        batch_size=config.get("batchSize", Serving.batch_size),
        max_batch_delay=config.get("maxBatchDelay", Serving.max_batch_delay),
        max_rows=handler.get("max_rows", Serving.max_rows),
        threads=handler.get("threads"),
        **autoscaling_of(config).autoscaling,
    )


def imported_by(source: bytes) -> tuple[str, ...]:
    """List the installed packages that a module imports, beside those of every archive."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    distributions = importlib.metadata.packages_distributions()
    needed = {distributions[name][0] for name in found - sys.stdlib_module_names if name in distributions}
    return tuple(sorted(needed - {*PACKAGES, "marloop"}))


def codec_of(entry_point: str) -> type[Codec]:
    """Return the codec of an entry point.

    Raises:
        ValueError: there is no such entry point, or it reads no tensors.
    """
    if entry_point not in CODECS:
        raise ValueError(f"the entry point is {entry_point!r}; it must be one of {', '.join(CODECS)}")
    return CODECS[entry_point]
