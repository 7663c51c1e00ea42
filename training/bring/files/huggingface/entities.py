"""Entities in texts: ``…ForTokenClassification``, as transformers' ``pipeline`` groups its labels of tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handlers.contract import Array, entity_outputs
from handlers.formats.tokens import FILE, TextTokenizer, entities_of
from training.bring.files.huggingface import texts
from training.bring.files.huggingface.folder import Folder, library
from training.bring.files.huggingface.scores import scores_of
from training.bring.graph import BringError, Brought, first_line, port_of
from training.packaging.export import quiet


class EntityOriginal:
    """A pipeline of transformers that answers for its folder, one text after the other.

    Args:
        pipeline: of the aggregation ``simple``.
        split: a worker's tokenizer, which must find the same entities.
    """

    def __init__(self, pipeline: Any, labels: Sequence[str], split: TextTokenizer) -> None:
        self._pipeline, self._labels, self._split = pipeline, labels, split

    def run(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Compute the probabilities of each token's labels, ``(n, tokens, labels)`` with zeros behind a text's last.

        Raises:
            BringError: the model refuses a text, or a worker would find other entities in it.
        """
        rows = [self._probabilities(text) for text in tensors[texts.INPUT]]
        most = max(map(len, rows))
        return [np.stack([np.pad(row, ((0, most - len(row)), (0, 0))) for row in rows])]

    def _probabilities(self, text: str) -> Array:
        pipeline = self._pipeline
        try:
            with quiet(), torch.inference_mode():
                tokens = pipeline.tokenizer(text, truncation=True, return_tensors="pt")
                probabilities: Array = torch.softmax(pipeline.model(**tokens).logits[0], 1).numpy()
                answers = pipeline(text)
        except Exception as error:  # a model raises what its code does
            raise BringError(f"the model cannot compute {text[:40]!r}: {first_line(error)}") from error
        (spans,) = self._split([text]).spans
        own = entities_of(self._labels, text, probabilities, spans) if len(spans) == len(probabilities) else []
        wanted = [(answer["entity_group"], answer["start"], answer["end"]) for answer in answers]
        if [(entity.entity_group, entity.start, entity.end) for entity in own] != wanted:
            raise BringError(f"a worker does not split {text[:40]!r} as the folder's tokenizer does")
        return probabilities


def read(folder: Folder) -> Brought:
    """Read a model that labels tokens.

    Raises:
        BringError: it cannot be loaded or exported, or two of its labels are the same.
    """
    model, tokenizer = folder.model("AutoModelForTokenClassification"), texts.tokenizer_of(folder)
    labels = scores_of(folder, model.config).labels
    longest = texts.longest_of(folder, model, tokenizer)
    tokenizer.model_max_length = longest  # a pipeline cuts there
    intake = replace(texts.intake_of(tokenizer, longest), outputs=entity_outputs())

    def head(outputs: Any, mask: Tensor) -> Tensor:
        return torch.softmax(outputs.logits, 2) * mask[:, :, None]

    module = texts.TextModule(model, tokenizer.pad_token_id or 0, head)
    graph = texts.export(folder, module, intake, longest)
    pipeline = library().pipeline(
        "token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="simple", device="cpu"
    )
    original = EntityOriginal(pipeline, labels, TextTokenizer(intake.assets[FILE], with_spans=True))
    return folder.brought(graph, tuple(map(port_of, graph.graph.output)), original, intake, labels)
