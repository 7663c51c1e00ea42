"""The origin of a model, for the contract: commit, data, hyperparameters, versions, time."""

import importlib.metadata
import inspect
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from handlers.contract import ModelContract
from handlers.contract.model_card import Lineage, RecipeSource, RowCounts
from training.data import sha256
from training.recipe import Data, Trained

PACKAGES = ("torch", "pytorch-lightning", "onnx", "onnxscript", "onnxruntime", "numpy")


def lineage(trained: Trained, root: Path, now: datetime) -> Lineage:
    """Describe the origin of a trained model.

    Args:
        root: the repository, for the commit; in an image, which has no git, its file ``COMMIT``.
        now: the time to record.
    """
    data, history = trained.data, trained.history
    return Lineage(
        temperature=None if trained.temperature == 1 else trained.temperature,  # the graph divides logits by it
        feedback=data.feedback,
        until=_until(data),
        git_commit=commit(root),
        recipe=source(Path(inspect.getfile(type(trained.recipe))), root),
        data_sha256=data.sha256,
        preset=trained.preset,
        hyperparameters=asdict(trained.hp),
        rows=RowCounts(len(data.train), len(data.test)),
        fit_seconds=round(trained.seconds, 1),
        history=[{**epoch} for epoch in history[:: max(1, len(history) // 20)]],  # the learning curve, thinned
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
        created=now.isoformat(timespec="seconds"),
    )


def source(file: Path, root: Path) -> RecipeSource | None:
    """Return the source of a recipe whose file lies outside the repository of ``root``; None for one in it."""
    file = file.resolve()
    if file.is_relative_to(root.resolve()):
        return None
    files = [file, *(path for path in sorted(file.parent.glob("_*.py")) if path != file)]
    return RecipeSource(file.name, commit(file.parent), sha256(*(path.read_bytes() for path in files)))


def with_lineage(contract: ModelContract, **attributes: Any) -> ModelContract:
    """Return a contract with these attributes of its lineage."""
    return msgspec.structs.replace(contract, lineage=msgspec.structs.replace(contract.lineage, **attributes))


def _until(data: Data) -> str | None:
    """Return the time of the version's newest row, learned or held out; None where rows have no times."""
    times = [part.time.max() for part in (data.train, data.test) if part.time is not None]
    return datetime.fromtimestamp(int(max(times)), UTC).isoformat() if times else None


def commit(root: Path) -> str:
    """Return the commit, not a tag's name, with ``-dirty`` where files differ from it; else ``unknown``."""
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        built_from = root / "COMMIT"
        return (built_from.read_text().strip() if built_from.is_file() else "") or "unknown"
