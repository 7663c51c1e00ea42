"""Texts to the graph's tokens, alike in training and in serving (Hugging Face's ``tokenizers``).

Where the graph labels tokens, neighbours of one label are an entity, with its place in the text.
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from handlers.contract import Array, entity_outputs

FILE = "tokenizer.json"
PAD = 0  # fills shorter rows up where the tokenizer names no other index; the graph ignores it
CHARACTERS = 20  # read of a text for each of its tokens: English has some five a token
OUTSIDE = "O"  # the label of what is no entity


class Tokens(NamedTuple):
    """Texts as tokens.

    Attributes:
        indices: INT64 ``(n, length)`` positions in the vocabulary; the longest row is not filled up.
        truncated: numbers of the texts that were too long for the model.
        blank: numbers of the texts without a word.
        spans: of each text, INT64 ``(tokens, 2)``: where its tokens start and end in it, in characters from 0; -1 for
            the marks of its start and end. Empty where nobody asked for them.
    """

    indices: Array
    truncated: list[int]
    blank: list[int]
    spans: Sequence[Array] = ()


class TextTokenizer:
    """Splits texts into words and parts of words.

    Args:
        settings: content of a ``tokenizer.json``; its truncation is the most tokens of a text, its padding the index
            that fills shorter rows up.
        with_spans: whether to tell where tokens stand, which takes longer.

    Raises:
        ValueError: it is damaged, or has no truncation.
    """

    def __init__(self, settings: bytes, with_spans: bool = False) -> None:
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
        self._with_spans = with_spans
        self._marks = self._tokenizer.num_special_tokens_to_add(False)  # of a text's start and end

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenise texts, which must be valid Unicode."""
        most = CHARACTERS * self.longest
        encode = self._tokenizer.encode_batch if self._with_spans else self._tokenizer.encode_batch_fast
        encodings = encode([text[:most] for text in texts])
        rows = [encoding.ids for encoding in encodings]
        indices = np.full((len(rows), max(map(len, rows))), self.pad, np.int64)
        for i, row in enumerate(rows):
            indices[i, : len(row)] = row
        full = [i for i, row in enumerate(rows) if len(row) == self.longest]
        cut = {i for i in full if encodings[i].overflowing} | {i for i, text in enumerate(texts) if len(text) > most}
        blank = [i for i, row in enumerate(rows) if len(row) <= self._marks]
        if not self._with_spans:
            return Tokens(indices, sorted(cut), blank)
        spans = [_spans(encoding.offsets, encoding.special_tokens_mask) for encoding in encodings]
        return Tokens(indices, sorted(cut), blank, spans)

    def stack(self, parts: Sequence[Array]) -> Array:
        """Return the rows of several requests in one array, padded to the longest."""
        length = max(part.shape[1] for part in parts)
        rows = [np.pad(part, ((0, 0), (0, length - part.shape[1])), constant_values=self.pad) for part in parts]
        return np.concatenate(rows)


def _spans(offsets: Sequence[tuple[int, int]], marks: Sequence[int]) -> Array:
    spans = np.array(offsets, np.int64)
    spans[np.array(marks, bool)] = -1
    return spans


class Entity(NamedTuple):
    """A row's value of each of the contract's outputs, for one entity."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


NONE = Entity("", 0.0, "", -1, -1)  # fills shorter rows up


def entities_of(labels: Sequence[str], text: str, probabilities: Array, spans: Array) -> list[Entity]:
    """Return a text's entities, as transformers' ``pipeline`` groups tokens by its aggregation ``simple``.

    Args:
        probabilities: FP32 ``(tokens, labels)``; rows behind the last token count for nothing.
        spans: of the tokens, see ``Tokens``.
    """
    entities = []
    names = [labels[i] for i in probabilities.argmax(1).tolist()]
    for tokens in _groups(names, np.flatnonzero(spans[:, 0] >= 0).tolist()):
        label = names[tokens[0]].split("-", 1)[-1]
        if label != OUTSIDE:
            (start, _), (_, end) = spans[tokens[0]].tolist(), spans[tokens[-1]].tolist()
            entities.append(Entity(label, probabilities[tokens].max(1).mean(), text[start:end], start, end))
    return entities


def tensors_of(rows: Sequence[Sequence[Entity]]) -> dict[str, Array]:
    """Return the contract's outputs, in which each row is as long as the longest."""
    most = max(map(len, rows))
    full = [[*row, *[NONE] * (most - len(row))] for row in rows]
    return {
        spec.name: np.array([[entity[i] for entity in row] for row in full], spec.dtype)
        for i, spec in enumerate(entity_outputs())
    }


def _groups(names: Sequence[str], tokens: Sequence[int]) -> Iterator[list[int]]:
    """Yield the tokens of each entity: neighbours of one label, unless a later one begins another: ``B-`` says so."""
    group: list[int] = []
    former = ""
    for token in tokens:
        prefix, label = names[token][:2], names[token]
        label = label[2:] if prefix in ("B-", "I-") else label
        if group and (label != former or prefix == "B-"):
            yield group
            group = []
        group.append(token)
        former = label
    if group:
        yield group
