"""Models of texts: their tokenizer, the most tokens of a text, and their export with tokens as the only input."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from handlers.contract import TensorSpec
from handlers.formats.tokens import FILE, TextTokenizer
from training.bring.files.huggingface import exporting
from training.bring.files.huggingface.folder import Folder
from training.bring.graph import BringError, Intake

INPUT = "text"
FILL = 2**31 - 1  # the index of no token: it fills shorter rows up, and the graph knows it by that
UNLIMITED = 1_000_000  # tokens from which on a tokenizer means that it knows no limit
POSITIONS = ("position_embeddings", "wpe", "embed_positions")  # names of tables with a row a position
SENTENCES = (
    "A fine film, from beginning to end.",
    "Bad.",
    "It drags on & on (for 3 hours!), and then it stops…",
    "Ein schöner Tag — naïve café, 42 °C.",
    "これは素晴らしい映画です。 😀👍🏽",
    "هذا فيلم جيد, שלום",
)
Head = Callable[[Any, Tensor], Tensor | tuple[Tensor, ...]]  # of the model's outputs, and a mask of the tokens


class TextModule(nn.Module):
    """A model whose only input is tokens, in rows that are filled up.

    Args:
        pad: index of the token that the model gets in their place.
    """

    def __init__(self, model: nn.Module, pad: int, head: Head) -> None:
        super().__init__()
        self.model, self._pad, self._head = model, pad, head

    def forward(self, text: Tensor) -> Tensor | tuple[Tensor, ...]:
        """INT64 (n, length) -> the head's outputs."""
        mask = text != FILL
        tokens = torch.where(mask, text, self._pad)
        return self._head(self.model(input_ids=tokens, attention_mask=mask.long()), mask)


def tokenizer_of(folder: Folder) -> Any:
    """Load a tokenizer; one without ``tokenizer.json`` is converted by transformers.

    A mark such as ``[SEP]`` in a text is read as its characters, as a worker does.

    Raises:
        BringError: it cannot be loaded or converted.
    """
    tokenizer = folder.processor("AutoTokenizer", "its tokenizer", split_special_tokens=True)
    if not getattr(tokenizer, "is_fast", False):
        kind = type(tokenizer).__name__
        raise BringError(f"{folder.path}: {kind} does not convert to a {FILE}, by which a worker splits texts")
    return tokenizer


def longest_of(folder: Folder, model: nn.Module, tokenizer: Any, *said: int | None) -> int:
    """Return the most tokens of a text: as many as tokenizer, model and others allow.

    Raises:
        BringError: none of them knows a limit.
    """
    tables = [
        module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in POSITIONS
    ]
    config: Any = model.config
    own = tables or [getattr(config, "max_position_embeddings", 0)]
    limits = [limit for limit in (tokenizer.model_max_length, *own, *said) if limit and 0 < limit < UNLIMITED]
    if not limits:
        raise BringError(
            f"{folder.path}: nobody says how many tokens a text may have: put model_max_length into "
            "tokenizer_config.json"
        )
    return int(min(limits))


def intake_of(tokenizer: Any, longest: int) -> Intake:
    """Return the way of texts to the graph: the tokenizer as a worker reads it, which cuts texts and fills rows up."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.enable_truncation(longest, direction=tokenizer.truncation_side)
    backend.enable_padding(pad_id=FILL, pad_token="")
    settings = backend.to_str().encode()
    split = TextTokenizer(settings)
    spec = TensorSpec(INPUT, "BYTES", description=f"what is over {longest} tokens is cut off")
    samples = np.array([*SENTENCES, "A long text of many words. " * longest], object)
    return Intake("text", spec, lambda texts: split(texts.tolist()).indices, samples, {FILE: settings})


def export(folder: Folder, module: TextModule, intake: Intake, longest: int, outputs: int = 1) -> onnx.ModelProto:
    """Convert a model of texts, with any number of rows of any length.

    Args:
        outputs: number of the head's.

    Raises:
        BringError: it does not export; says why.
    """
    rows = torch.from_numpy(intake.encode(intake.samples[:2]))
    shapes = ({0: Dim("batch"), 1: Dim("length", min=2, max=longest)},)
    return exporting.export(folder, module, rows, shapes, INPUT, outputs)
