"""Where a model comes from, for the contract: commit, data, hyperparameters, versions, time."""

import importlib.metadata
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training.recipe import Data, Trained

PACKAGES = ("torch", "pytorch-lightning", "onnx", "onnxscript", "onnxruntime", "numpy")


def lineage(trained: Trained, root: Path, now: datetime) -> dict[str, Any]:
    """Describe how a model was made.

    Args:
        root: the repository, for the commit; in an image, which has no git, the file ``COMMIT`` tells it.
        now: the time to record.
    """
    divided = {} if trained.temperature == 1 else {"temperature": trained.temperature}  # logits, in the graph
    fed = {} if trained.data.feedback is None else {"feedback": trained.data.feedback}
    return (
        divided
        | fed
        | _until(trained.data)
        | {
            "git_commit": commit(root),
            "data_sha256": trained.data.sha256,
            "preset": trained.preset,
            "hyperparameters": asdict(trained.hp),
            "rows": {"train": len(trained.data.train), "test": len(trained.data.test)},
            "fit_seconds": round(trained.seconds, 1),
            "history": trained.history[:: max(1, len(trained.history) // 20)],  # the learning curve, thinned
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
            "created": now.isoformat(timespec="seconds"),
        }
    )


def _until(data: Data) -> dict[str, str]:
    """The time of the newest row that the version knows, learned or held out; empty where rows have no times."""
    times = [part.time.max() for part in (data.train, data.test) if part.time is not None]
    return {"until": datetime.fromtimestamp(int(max(times)), UTC).isoformat()} if times else {}


def commit(root: Path) -> str:
    """The commit, not a tag's name, with ``-dirty`` where files differ from it; ``unknown`` if nothing tells it."""
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        built_from = root / "COMMIT"
        return (built_from.read_text().strip() if built_from.is_file() else "") or "unknown"
