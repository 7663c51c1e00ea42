"""Texts in every wire format: the client sends a string, the graph takes its tokens."""

from collections.abc import Sequence
from pathlib import Path

from handlers.batch import Decoded, Outputs
from handlers.contract import Array, ModelContract
from handlers.features import filled
from handlers.formats import tokens
from handlers.formats.codec import Codec
from handlers.message import InputError, Request, Response

TRUNCATED = "X-Truncated-Rows"
COUNT = "X-Tokens"  # of a response whose request has it too
_PATHS = {"native": "$.{name}", "v1": "$.instances[{row}].{name}", "v2": "$.inputs[0].data[{row}]", "npy": "$[{row}]"}


class TextCodec(Codec):
    """Turns each text into tokens while its request is decoded, and pads them to the longest of a batch.

    Of a text that is too long the beginning is answered; the header ``X-Truncated-Rows`` lists the numbers of such
    rows, from 0. A request with the header ``X-Tokens`` is told how many tokens its texts have. Where the graph labels
    tokens, the answer is the entities that they make.

    Args:
        contract: its only input is BYTES ``[-1]`` without categories.
        tokenizer: that of the training.
    """

    def __init__(self, contract: ModelContract, max_rows: int, tokenizer: tokens.TextTokenizer) -> None:
        super().__init__(contract, max_rows)
        self._name = contract.inputs[0].name
        self._tokenize = tokenizer

    @classmethod
    def open(cls, directory: Path, contract: ModelContract, max_rows: int) -> "TextCodec":
        """Read ``assets/tokenizer.json``."""
        settings = (directory / "assets" / tokens.FILE).read_bytes()
        return cls(contract, max_rows, tokens.TextTokenizer(settings, contract.finds_entities))

    def decode(self, request: Request) -> Decoded:
        """Decode one request, or raise ``InputError``, also for an empty text."""
        decoded = super().decode(request)
        sent = decoded.tensors
        texts = filled(sent, self._defaults)[self._name].tolist()
        rows = self._tokenize(texts)
        if rows.blank:
            path = _PATHS[decoded.protocol].format(name=self._name, row=rows.blank[0])
            raise InputError("empty", f"{self._name} has no words", path, "a text with at least one visible character")

        told = {TRUNCATED: ",".join(map(str, rows.truncated))} if rows.truncated else {}
        if COUNT.lower() in request.headers:
            told[COUNT] = str(int((rows.indices != self._tokenize.pad).sum()))

        def encode(outputs: Outputs) -> Response:
            response = decoded.encode(self._answers(texts, rows, outputs))
            return response._replace(headers={**response.headers, **told}) if told else response

        tensors = {self._name: rows.indices}
        return Decoded(decoded.protocol, decoded.rows, tensors, encode, sent)

    def _answers(self, texts: Sequence[str], rows: tokens.Tokens, outputs: Outputs) -> Outputs:
        """Return the contract's outputs of the graph's."""
        if not rows.spans:
            return outputs
        triples = zip(texts, outputs["probabilities"], rows.spans, strict=True)
        return tokens.tensors_of([tokens.entities_of(self.contract.labels, *triple) for triple in triples])

    def stack(self, decoded: Sequence[Decoded]) -> dict[str, Array]:
        """Return the tokens of several requests, padded to the longest."""
        return {self._name: self._tokenize.stack([request.tensors[self._name] for request in decoded])}
