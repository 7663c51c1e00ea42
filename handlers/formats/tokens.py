"""Texts to the graph's tokens, alike in training and in serving (Hugging Face's ``tokenizers``)."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from handlers.contract import Array

FILE = "tokenizer.json"
PAD = 0  # fills shorter rows up where the tokenizer names no other index; the graph ignores it
CHARACTERS = 20  # read of a text for each of its tokens: English has some five a token


class Tokens(NamedTuple):
    """Texts as tokens.

    Attributes:
        indices: INT64 ``(n, length)`` positions in the vocabulary; the longest row is not filled up.
        truncated: numbers of the texts that were too long for the model.
        blank: numbers of the texts without a word.
    """

    indices: Array
    truncated: list[int]
    blank: list[int]


class TextTokenizer:
    """Splits texts into words and parts of words.

    Args:
        settings: content of a ``tokenizer.json``; its truncation is the most tokens of a text, its padding the index
            that fills shorter rows up.

    Raises:
        ValueError: it is damaged, or has no truncation.
    """

    def __init__(self, settings: bytes) -> None:
        from tokenizers import Tokenizer  # only models of texts need it

        # Its threads would take the other workers' cores, and help no request of a few texts.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        try:
            self._tokenizer = Tokenizer.from_str(settings.decode())
        except Exception as error:  # the library raises nothing more precise
            raise ValueError(f"{FILE} is damaged: {error}") from error
        if not self._tokenizer.truncation:
            raise ValueError(f"{FILE} has no truncation: it must say how many tokens a text may have")
        self.longest: int = self._tokenizer.truncation["max_length"]
        self.pad: int = (self._tokenizer.padding or {"pad_id": PAD})["pad_id"]
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a text is five characters, no command
        self._marks = self._tokenizer.num_special_tokens_to_add(False)  # of a text's start and end

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenise texts, which must be valid Unicode."""
        most = CHARACTERS * self.longest
        encodings = self._tokenizer.encode_batch_fast([text[:most] for text in texts])
        rows = [encoding.ids for encoding in encodings]
        indices = np.full((len(rows), max(map(len, rows))), self.pad, np.int64)
        for i, row in enumerate(rows):
            indices[i, : len(row)] = row
        full = [i for i, row in enumerate(rows) if len(row) == self.longest]
        cut = {i for i in full if encodings[i].overflowing} | {i for i, text in enumerate(texts) if len(text) > most}
        return Tokens(indices, sorted(cut), [i for i, row in enumerate(rows) if len(row) <= self._marks])

    def stack(self, parts: Sequence[Array]) -> Array:
        """Return the rows of several requests in one array, padded to the longest."""
        length = max(part.shape[1] for part in parts)
        rows = [np.pad(part, ((0, 0), (0, length - part.shape[1])), constant_values=self.pad) for part in parts]
        return np.concatenate(rows)
