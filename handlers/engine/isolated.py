"""Engines in a process of their own: for files that hold code, and for models that ask for it.

The functions that a ``Child`` is made of are here, too. They import their library themselves: the worker needs none.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handlers.contract import Array
from handlers.engine.child import Child
from handlers.engine.devices import check_present, torch_device
from handlers.engine.isolation import ISOLATED
from handlers.engine.signature import Signature

Answer = Callable[[list[Array]], list[Array]]


class IsolatedEngine:
    """A model of which a process of its own computes the outputs.

    Args:
        name: a key of ``ISOLATED``.
        directory: holds the file.
        threads: for one operator.
        device: as of ``handler.device``.
        patience: s that a batch may take, a new start of the process included.

    Raises:
        ChildError: it does not start.
    """

    def __init__(
        self, name: str, directory: Path, signature: Signature, threads: int, device: str, patience: float
    ) -> None:
        function, files = ISOLATED[name]
        path = next((directory / file for file in files if (directory / file).exists()), directory / files[0])
        trusted = list(signature.trusted)
        arguments = {"path": str(path), "threads": threads, "device": device, "trusted": trusted}
        self._child = Child(f"{__name__}:{function}", arguments)
        self._signature, self._patience = signature, patience

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs of a batch.

        Raises:
            ChildError: the process raised, ended, or took too long.
        """
        arrays = [tensors[entry.name] for entry in self._signature.inputs]
        outputs = self._child.ask(arrays, self._patience)
        return dict(zip(self._signature.outputs, outputs, strict=True))


class IsolatedGraph:
    """An engine of a graph in a process of its own, so that a crash of its library ends no other model.

    Args:
        name: the engine's, a key of ``ENGINES``.
        directory: holds the graph.
        inputs: names, in the order of arguments.
        outputs: names, in the order of results; None for all by the graph's own names.
        threads: for one operator.
        device: as of ``handler.device``.
        patience: s that a batch may take, a new start of the process included.

    Raises:
        ChildError: it does not start.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        inputs: Sequence[str],
        outputs: Sequence[str] | None,
        threads: int,
        device: str,
        patience: float,
    ) -> None:
        arguments = {
            "name": name,
            "directory": str(directory),
            "inputs": list(inputs),
            "outputs": None if outputs is None else list(outputs),
            "threads": threads,
            "device": device,
        }
        self._child = Child("handlers.engine:graph_in_child", arguments)
        self._patience = patience

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs of a batch.

        Raises:
            ChildError: the process raised, ended, or took too long.
        """
        outputs: dict[str, Array] = self._child.ask(dict(tensors), self._patience)
        return outputs


def script(path: str, threads: int, device: str, trusted: Sequence[str]) -> Answer:
    """Return the function of a TorchScript file."""
    import torch

    place = torch_device(device)
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated was said when it was imported
        module: Any = torch.jit.load(path, map_location=place).eval()  # type: ignore[no-untyped-call]

    def run(arrays: list[Array]) -> list[Array]:
        with torch.inference_mode():
            outputs = module(*(torch.from_numpy(array).to(place) for array in arrays))
        return [value.cpu().numpy() for value in torch.utils._pytree.tree_leaves(outputs) if torch.is_tensor(value)]

    return run


def estimator(path: str, threads: int, device: str, trusted: Sequence[str]) -> Answer:
    """Return the function of a file of scikit-learn."""
    check_present(device, "python")
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when the libraries are loaded
    if path.endswith(".skops"):
        import skops.io

        model: Any = skops.io.load(path, trusted=list(trusted))
    else:
        import joblib

        model = joblib.load(path)
    return lambda arrays: predicted(model, arrays)


def predicted(model: Any, arrays: Sequence[Array]) -> list[Array]:
    """Return the answers of an estimator: labels and probabilities of a classifier, else values.

    Args:
        arrays: a column for each name that it was fitted with, or a matrix of them.
    """
    from sklearn.base import is_classifier

    rows: Any = arrays[0]
    if (names := getattr(model, "feature_names_in_", None)) is not None:
        import pandas

        columns = [column for array in arrays for column in array.reshape(len(array), -1).T]
        rows = pandas.DataFrame(dict(zip(names, columns, strict=True)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = np.asarray(model.predict(rows))
        if is_classifier(model):
            labels = answers.astype(str).astype(object) if answers.dtype.kind in "OU" else answers
            return [labels, np.asarray(model.predict_proba(rows), np.float32)]
    return [answers.reshape(len(answers), -1).astype(np.float32)]
