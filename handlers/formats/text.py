"""Texts in every wire format: the client sends a string, the graph takes its tokens."""

from collections.abc import Sequence
from pathlib import Path

from handlers.batch import Decoded, Outputs
from handlers.contract import Array, ModelContract
from handlers.formats import tokens
from handlers.formats.codec import Codec
from handlers.message import InputError, Request, Response

TRUNCATED = "X-Truncated-Rows"
_PATHS = {"native": "$.{name}", "v1": "$.instances[{row}].{name}", "v2": "$.inputs[0].data[{row}]", "npy": "$[{row}]"}


class TextCodec(Codec):
    """Turns each text into tokens while its request is decoded, and pads them to the longest of a batch.

    Of a text that is too long the beginning is answered; the header ``X-Truncated-Rows`` lists the numbers of such
    rows, from 0.

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
        return cls(contract, max_rows, tokens.TextTokenizer(settings))

    def decode(self, request: Request) -> Decoded:
        """Decode one request, or raise ``InputError``, also for an empty text."""
        decoded = super().decode(request)
        texts = decoded.tensors
        rows = self._tokenize(texts[self._name].tolist())
        if rows.blank:
            path = _PATHS[decoded.protocol].format(name=self._name, row=rows.blank[0])
            raise InputError("empty", f"{self._name} has no words", path, "a text with at least one visible character")

        def encode(outputs: Outputs) -> Response:
            response = decoded.encode(outputs)
            numbers = ",".join(map(str, rows.truncated))
            return response._replace(headers={**response.headers, TRUNCATED: numbers})

        tensors = {self._name: rows.indices}
        return Decoded(decoded.protocol, decoded.rows, tensors, encode if rows.truncated else decoded.encode, texts)

    def stack(self, decoded: Sequence[Decoded]) -> dict[str, Array]:
        """Return the tokens of several requests, padded to the longest."""
        return {self._name: self._tokenize.stack([request.tensors[self._name] for request in decoded])}
