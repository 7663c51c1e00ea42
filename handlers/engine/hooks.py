"""Hooks: a model's own code before and after its graph, in a file of its archive.

``hooks.py`` has one function or both, each of arrays by name with the rows first:

- ``preprocess(rows)`` makes the graph's inputs of the contract's; a category is its string.
- ``postprocess(outputs)`` makes the contract's outputs of the graph's.

A row that they refuse by ``InputError`` is a client's fault; any other error is the model's.
"""

import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from handlers.contract import Array, ModelContract
from handlers.engine.signature import Graph, Tensors
from handlers.message import InputError

FILE = "hooks.py"
REQUIREMENTS = "requirements.txt"
NAMES = ("preprocess", "postprocess")
Hook = Callable[[Tensors], Tensors]


class HookError(ValueError):
    """The file of hooks cannot be loaded or does not keep its promise; the message says what is wrong."""


class Hooks:
    """The functions of a file.

    Raises:
        HookError: it cannot be imported, or has neither function; names packages that are missing.
    """

    def __init__(self, path: Path) -> None:
        try:
            module = _imported(path)
        except ImportError as error:
            missing = missing_packages(path.parent)
            raise HookError(f"{path.name} cannot be imported: {error}{missing}") from error
        except Exception as error:
            raise HookError(f"{path.name} cannot be imported: {type(error).__name__}: {error}") from error
        found = {name: hook for name in NAMES if callable(hook := getattr(module, name, None))}
        if not found:
            raise HookError(f"{path.name} has neither a function preprocess(rows) nor postprocess(outputs)")
        self._hooks: dict[str, Hook] = found

    def preprocess(self, rows: Tensors) -> Tensors:
        """Make the graph's inputs; without the function they are the contract's."""
        return self._call("preprocess", rows)

    def postprocess(self, outputs: Tensors) -> Tensors:
        """Make the contract's outputs; without the function they are the graph's."""
        return self._call("postprocess", outputs)

    def _call(self, name: str, arrays: Tensors) -> Tensors:
        hook = self._hooks.get(name)
        if hook is None:
            return arrays
        count = len(next(iter(arrays.values())))
        try:
            answer = {key: np.asarray(value) for key, value in hook(dict(arrays)).items()}
        except InputError:
            raise
        except Exception as error:
            raise HookError(f"{name} failed: {type(error).__name__}: {error}") from error
        for key, array in answer.items():
            if array.ndim == 0 or len(array) != count:
                raise HookError(f"{name} made {key} {list(array.shape)} of {count} rows; it must have a value a row")
        return answer


class Hooked:
    """An engine with hooks around it.

    Args:
        graph: takes and returns the graph's own names.
    """

    def __init__(self, hooks: Hooks, graph: Graph, contract: ModelContract) -> None:
        self._hooks, self._graph = hooks, graph
        self._categories = {spec.name: np.array(spec.categories, object) for spec in contract.inputs if spec.categories}
        dtypes = {spec.name: spec.dtype for spec in contract.outputs}
        self._outputs = {name: dtypes[name] for name in contract.graph_outputs}

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """Compute the contract's outputs of a batch.

        Raises:
            HookError: a hook failed.
            InputError: a hook refused a row.
        """
        rows = dict(tensors) | {name: names[tensors[name]] for name, names in self._categories.items()}
        answer = self._hooks.postprocess(self._graph.run(self._hooks.preprocess(rows)))
        if missing := self._outputs.keys() - answer.keys():
            raise HookError(f"there is no output {sorted(missing)[0]}; there are {', '.join(answer) or 'none'}")
        return {name: answer[name].astype(dtype, copy=False) for name, dtype in self._outputs.items()}


def _imported(path: Path) -> ModuleType:
    """Import a file under a name that no other model's file has."""
    name = f"hooks_of_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    loader.exec_module(module)
    return module


def missing_packages(directory: Path) -> str:
    """Return how to install what an archive needs and is not installed; empty where there is nothing."""
    needed = absent(directory / REQUIREMENTS)
    return f": pip install {' '.join(needed)}" if needed else ""


def absent(requirements: Path) -> list[str]:
    """List the requirements of an archive that are not installed, each with its version.

    Options, addresses, and what only some systems need are left out.
    """
    lines = requirements.read_text(encoding="utf-8").splitlines() if requirements.exists() else []
    needed = [line.partition(" #")[0].strip() for line in lines if not line.lstrip().startswith(("#", "-"))]
    return [line for line in needed if line and not (";" in line or "/" in line or _is_installed(line))]


def _is_installed(requirement: str) -> bool:
    try:
        importlib.metadata.version(re.split(r"[=<>!~\[\s]", requirement, maxsplit=1)[0])
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
