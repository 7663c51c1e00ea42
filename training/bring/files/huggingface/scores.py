"""Scores of labels as a pipeline of transformers answers them: from its model's logits to the contract's outputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from handlers.contract import Array
from training.bring.files.huggingface.folder import Folder
from training.bring.graph import BringError, Port, first_line, port_of
from training.packaging.export import quiet


@dataclass(frozen=True)
class Scores:
    """The labels of a classifier.

    Attributes:
        function: that a pipeline applies to the logits: ``softmax``, ``sigmoid``, or empty for none.
    """

    labels: tuple[str, ...]
    function: str

    @property
    def apart(self) -> bool:
        """Whether each label is an output of its own: several may be true together."""
        return self.function != "softmax" and len(self.labels) > 1

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, where one of them is true."""
        return self.labels if self.function == "softmax" else ()

    @property
    def outputs(self) -> int:
        """Number of the graph's outputs."""
        return len(self.labels) if self.apart else 1

    def head(self, outputs: Any) -> Tensor | tuple[Tensor, ...]:
        """Return the scores, inside the graph."""
        scores: Tensor = outputs.logits
        if self.function == "softmax":
            return torch.softmax(scores, 1)
        scores = torch.sigmoid(scores) if self.function == "sigmoid" else scores
        return torch.unbind(scores, 1) if self.apart else scores

    def ports(self, graph: onnx.ModelProto) -> tuple[Port, ...]:
        """Return the graph's outputs with names for clients: of several labels their own."""
        outputs = [port_of(value) for value in graph.graph.output]
        taken = {value.name for value in graph.graph.input}
        names = [f"{label}_" if label in taken else label for label in self.labels]
        names = names if self.apart else ["probabilities" if self.function == "softmax" else "score"]
        return tuple(Port(name, port.kind, port.sizes) for name, port in zip(names, outputs, strict=True))


class PipelineOriginal:
    """A pipeline of transformers that answers for its folder, one input after the other.

    Args:
        name: of the graph's input.
        read: from a row of the contract's input to the pipeline's.
        options: of each call.
    """

    def __init__(
        self, pipeline: Any, scores: Scores, name: str, read: Callable[[Any], Any] = lambda row: row, **options: Any
    ) -> None:
        self._pipeline, self._scores, self._name, self._read, self._options = pipeline, scores, name, read, options

    def run(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Compute the scores.

        Raises:
            BringError: the pipeline refuses a row.
        """
        rows = [self._answer(row) for row in tensors[self._name]]
        values = np.array([[row[label] for label in self._scores.labels] for row in rows], np.float32)
        return list(values.T) if self._scores.apart else [values]

    def _answer(self, row: Any) -> dict[str, float]:
        try:
            with quiet():
                answers = self._pipeline(self._read(row), **self._options)
        except Exception as error:  # a model raises what its code does
            raise BringError(f"the model cannot compute {str(row)[:40]!r}: {first_line(error)}") from error
        return {answer["label"]: answer["score"] for answer in answers}


def scores_of(folder: Folder, config: Any) -> Scores:
    """Return the labels of a configuration.

    Raises:
        BringError: two of them are the same.
    """
    labels: Sequence[str] = [str(config.id2label[i]) for i in range(config.num_labels)]
    if len(set(labels)) < len(labels):
        raise BringError(f"{folder.path}: two of its labels are the same: {', '.join(labels)}")
    if config.problem_type == "regression":
        return Scores(tuple(labels), "")
    several = config.problem_type == "multi_label_classification" or config.num_labels == 1
    return Scores(tuple(labels), "sigmoid" if several else "softmax")
