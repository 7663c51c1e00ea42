"""Texts in, in every wire format: the client sends a string, the graph takes its tokens."""

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

    Where a text is longer than the model takes, its beginning is answered, and the header ``X-Truncated-Rows`` lists
    the numbers of such rows, from 0.

    Args:
        contract: of a model whose only input is BYTES ``[-1]`` without categories.
        max_rows: of one request.
        tokenizer: that the model was trained with.
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
        """Decode one request.

        Raises:
            InputError: the request cannot be answered, or a text is empty, and why.
        """
        decoded = super().decode(request)
        texts = decoded.tensors
        found = self._tokenize(texts[self._name].tolist())
        if found.blank:
            path = _PATHS[decoded.protocol].format(name=self._name, row=found.blank[0])
            raise InputError("empty", f"{self._name} has no words", path, "a text with at least one visible character")

        def encode(outputs: Outputs) -> Response:
            response = decoded.encode(outputs)
            rows = ",".join(map(str, found.truncated))
            return response._replace(headers={**response.headers, TRUNCATED: rows})

        tensors = {self._name: found.indices}
        return Decoded(decoded.protocol, decoded.rows, tensors, encode if found.truncated else decoded.encode, texts)

    def stack(self, decoded: Sequence[Decoded]) -> dict[str, Array]:
        """The tokens of several requests, padded to the longest."""
        return {self._name: tokens.stack([one.tensors[self._name] for one in decoded])}
