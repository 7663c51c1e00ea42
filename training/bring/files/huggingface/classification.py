"""Classification of texts: ``…ForSequenceClassification``, as transformers' ``pipeline`` answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handlers.contract import Array
from training.bring.files.huggingface import texts
from training.bring.files.huggingface.folder import Folder, library
from training.bring.graph import BringError, Brought, Port, first_line, inputs_of, port_of
from training.packaging.export import quiet

AUTO = "AutoModelForSequenceClassification"


class PipelineOriginal:
    """A pipeline of transformers that answers for its folder, text by text.

    Args:
        labels: in the order of the scores.
        apart: whether each label is an output of its own.
    """

    def __init__(self, pipeline: Any, longest: int, labels: Sequence[str], apart: bool) -> None:
        self._pipeline, self._longest, self._labels, self._apart = pipeline, longest, labels, apart

    def run(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Compute the scores of texts.

        Raises:
            BringError: the pipeline refuses a text.
        """
        rows = [self._scores(text) for text in tensors[texts.INPUT]]
        scores = np.array([[row[label] for label in self._labels] for row in rows], np.float32)
        return list(scores.T) if self._apart else [scores]

    def _scores(self, text: str) -> dict[str, float]:
        try:
            with quiet():
                answers = self._pipeline(text, top_k=None, truncation=True, max_length=self._longest)
        except Exception as error:  # a model raises what its code does
            raise BringError(f"the model cannot compute {text[:40]!r}: {first_line(error)}") from error
        return {answer["label"]: answer["score"] for answer in answers}


def read(folder: Folder) -> Brought:
    """Read a classifier of texts.

    Raises:
        BringError: it cannot be loaded or exported, or two of its labels are the same.
    """
    model, tokenizer = folder.model(AUTO), texts.tokenizer_of(folder)
    labels = tuple(str(model.config.id2label[i]) for i in range(model.config.num_labels))
    if len(set(labels)) < len(labels):
        raise BringError(f"{folder.path}: two of its labels are the same: {', '.join(labels)}")
    longest = texts.longest_of(folder, model, tokenizer)
    intake = texts.intake_of(tokenizer, longest)
    function = _function(model.config)
    apart = function != "softmax" and len(labels) > 1

    def head(outputs: Any, _: Tensor) -> Tensor | tuple[Tensor, ...]:
        scores: Tensor = outputs.logits
        if function == "softmax":
            return torch.softmax(scores, 1)
        scores = torch.sigmoid(scores) if function == "sigmoid" else scores
        return torch.unbind(scores, 1) if apart else scores

    module = texts.TextModule(model, tokenizer.pad_token_id or 0, head)
    graph = texts.export(folder, module, intake, longest, len(labels) if apart else 1)
    pipeline = library().pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    return Brought(
        folder.path.name,
        f"transformers, {folder.architecture}",
        folder.sha256(),
        graph,
        inputs_of(graph),
        _ports([port_of(value) for value in graph.graph.output], labels, function),
        labels if function == "softmax" else (),
        original=PipelineOriginal(pipeline, longest, labels, apart),
        intake=intake,
    )


def _function(config: Any) -> str:
    """Return what a pipeline applies to the logits: softmax, sigmoid or nothing."""
    if config.problem_type == "regression":
        return ""
    return "sigmoid" if config.problem_type == "multi_label_classification" or config.num_labels == 1 else "softmax"


def _ports(outputs: Sequence[Port], labels: Sequence[str], function: str) -> tuple[Port, ...]:
    """Return the outputs with names for clients: of several labels their own."""
    if len(outputs) == 1:
        return (Port("probabilities" if function == "softmax" else "score", outputs[0].kind, outputs[0].sizes),)
    names = [f"{label}_" if label == texts.INPUT else label for label in labels]
    return tuple(Port(name, port.kind, port.sizes) for name, port in zip(names, outputs, strict=True))
