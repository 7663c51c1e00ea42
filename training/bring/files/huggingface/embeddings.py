"""Embeddings of texts: an encoder of transformers, and what becomes of its tokens' vectors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handlers.contract import Array
from training.bring.files.huggingface import texts
from training.bring.files.huggingface.dense import Step
from training.bring.files.huggingface.folder import Folder
from training.bring.graph import BringError, Brought, Port, first_line, port_of
from training.packaging.export import quiet

OUTPUT = "embedding"
DECODING = ("t5", "mt5", "umt5")  # kinds of models that are an encoder and a decoder, of which texts take the first
_MASKED = -1e9

# Of the tokens' vectors (n, length, width) and a mask of the tokens (n, length, 1).
_POOLED: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": lambda vectors, mask: vectors[:, 0],
    "mean": lambda vectors, mask: (vectors * mask).sum(1) / mask.sum(1),
    "max": lambda vectors, mask: torch.where(mask > 0, vectors, _MASKED).amax(1),
    "mean_sqrt_len": lambda vectors, mask: (vectors * mask).sum(1) / mask.sum(1).sqrt(),
}
# The same of one text alone, (length, width), by NumPy.
_OWN: Mapping[str, Callable[[Array], Array]] = {
    "cls": lambda vectors: vectors[0],
    "mean": lambda vectors: vectors.mean(0),
    "max": lambda vectors: vectors.max(0),
    "mean_sqrt_len": lambda vectors: vectors.sum(0) / np.sqrt(len(vectors)),
}


@dataclass(frozen=True)
class Encoding:
    """The steps from a text to a vector.

    Attributes:
        modes: of the pooling; the vector has a part of each.
        steps: behind the pooling, in their order.
        longest: most tokens of a text; None where only model and tokenizer know.
    """

    folder: Folder
    modes: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    longest: int | None = None
    notes: tuple[str, ...] = ()


class EncoderHead(nn.Module):
    """Pools the tokens' vectors, and applies the steps behind."""

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        self._modes = encoding.modes
        self.steps = nn.Sequential(*(step.module() for step in encoding.steps))

    def forward(self, outputs: Any, mask: Tensor) -> Tensor:
        """Return vectors FP32 (n, width) of a model's outputs and BOOL (n, length)."""
        vectors = outputs.last_hidden_state
        weights = mask[:, :, None].to(vectors.dtype)
        pooled: Tensor = self.steps(torch.cat([_POOLED[mode](vectors, weights) for mode in self._modes], 1))
        return pooled


class EncoderOriginal:
    """An encoder of transformers, pooled as sentence-transformers does, that answers for its folder text by text."""

    def __init__(self, model: Any, tokenizer: Any, longest: int, encoding: Encoding) -> None:
        self._model, self._tokenizer, self._longest, self._encoding = model, tokenizer, longest, encoding

    def run(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Compute the vectors of texts.

        Raises:
            BringError: the model refuses a text.
        """
        return [np.stack([self._vector(text) for text in tensors[texts.INPUT]])]

    def _vector(self, text: str) -> Array:
        try:
            with quiet(), torch.inference_mode():
                tokens = self._tokenizer(text, truncation=True, max_length=self._longest, return_tensors="pt")
                vectors = self._model(**tokens).last_hidden_state[0].numpy()
        except Exception as error:  # a model raises what its code does
            raise BringError(f"the model cannot compute {text[:40]!r}: {first_line(error)}") from error
        vector = np.concatenate([_OWN[mode](vectors) for mode in self._encoding.modes])
        for step in self._encoding.steps:
            vector = step.apply(vector)
        return np.asarray(vector, np.float32)


def read(encoding: Encoding) -> Brought:
    """Read an encoder of texts.

    Raises:
        BringError: it cannot be loaded or exported, or a step takes vectors of another width.
    """
    folder = encoding.folder
    auto = "AutoModelForTextEncoding" if folder.config.model_type in DECODING else "AutoModel"
    model, tokenizer = folder.model(auto, optional="pooler."), texts.tokenizer_of(folder)
    _check_widths(encoding, model)
    longest = texts.longest_of(folder, model, tokenizer, encoding.longest)
    intake = texts.intake_of(tokenizer, longest)
    module = texts.TextModule(model, tokenizer.pad_token_id or 0, EncoderHead(encoding))
    graph = texts.export(folder, module, intake, longest)
    (vector,) = map(port_of, graph.graph.output)
    steps = [f"{' and '.join(encoding.modes)} pooling", *(step.label for step in encoding.steps)]
    outputs = (Port(OUTPUT, vector.kind, vector.sizes),)
    brought = folder.brought(graph, outputs, EncoderOriginal(model, tokenizer, longest, encoding), intake)
    return replace(brought, kind=", ".join([brought.kind, *steps]), notes=encoding.notes)


def _check_widths(encoding: Encoding, model: Any) -> None:
    """Raise ``BringError`` unless each step takes what the one before leaves."""
    width = int(getattr(model.config, "hidden_size", 0)) * len(encoding.modes)
    for step in encoding.steps if width else ():
        width = step.width_of(width)


def of_encoder(folder: Folder, pooling: str) -> Encoding:
    """Return the steps of an encoder whose pooling is named.

    Raises:
        BringError: there is no such pooling.
    """
    check_pooling(folder.path, (pooling,))
    return Encoding(folder, (pooling,))


def check_pooling(path: Path, modes: Sequence[str]) -> None:
    """Raise ``BringError`` unless a folder names poolings, all of them known."""
    if not modes or (unknown := [mode for mode in modes if mode not in _POOLED]):
        name = unknown[0] if modes else "none"
        raise BringError(f"{path}: the pooling {name!r} cannot be imported; {', '.join(_POOLED)} can")
