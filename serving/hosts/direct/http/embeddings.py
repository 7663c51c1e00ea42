"""OpenAI's "Create embeddings" (its API reference), answered by a model that makes one vector of each text."""

import asyncio
import base64
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from handlers import json_io
from handlers.contract import ModelContract
from handlers.formats.text import COUNT
from handlers.http.kserve import EXPLAIN, V1
from handlers.language.api.answers import error_body
from handlers.language.api.models import split_name
from handlers.message import JSON, InputError, Request, Response
from serving.hosts.direct.routes import Target, check_allowed, native_path


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A body of "Create embeddings"."""

    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


_Answer = asyncio.Future[Response]
_DECODER = msgspec.json.Decoder(EmbeddingsRequest)
_FIELDS = EmbeddingsRequest.__struct_fields__
_TEXTS = "a text or a list of texts"


def parse(body: bytes) -> EmbeddingsRequest:
    """Parse a body.

    Raises:
        InputError: it has another form, or no text.
    """

    asked = json_io.decode_strictly(_DECODER, body, _describe)
    if not asked.input:
        raise InputError("empty", "there is no text", "$.input", _TEXTS)
    return asked


async def embed(
    request: Request,
    targets: Mapping[str, Target],
    allowed: Collection[str] | None,
    awaited: Callable[[_Answer], _Answer] = lambda answer: answer,
) -> Response:
    """Answer a request by the model that its body names.

    Args:
        targets: of all predictions, by path.
        allowed: the only models that the request's key is for; None for all.
        awaited: gets the answer that is waited for, and returns it.

    Raises:
        InputError: the body has another form, or names no model that makes a vector of a text.
        Overloaded: the request would wait for too long.
    """
    asked = parse(request.body)
    check_allowed(split_name(asked.model).model, allowed)
    target = targets.get(native_path(asked.model))
    embedder = embedder_of(target.model.contract) if target else None
    if target is None or embedder is None:
        raise InputError("model_not_found", f"no model {asked.model!r} makes a vector of a text", "model")
    inner = embedder.request(asked, request)
    target.model.batches.admit(len(inner.body), target.model.patience)
    return embedder.answer(asked, await awaited(target.model.batches.submit(inner, target.model.patience)))


@dataclass(frozen=True)
class Embedder:
    """A model that makes a vector of a text.

    Attributes:
        name: of its input.
        size: of the vector.
    """

    model: str
    name: str
    size: int

    def request(self, asked: EmbeddingsRequest, request: Request) -> Request:
        """Return the model's own request.

        Raises:
            InputError: other dimensions are asked for.
        """
        if asked.dimensions not in (None, self.size):
            message = f"{self.model} makes vectors of {self.size} numbers"
            raise InputError("invalid_parameter", message, "$.dimensions", str(self.size))
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        body = msgspec.json.encode({"instances": [{self.name: text} for text in texts]})
        headers = {name: value for name, value in request.headers.items() if name not in ("accept", "content-encoding")}
        return request._replace(body=body, headers=headers | {"content-type": JSON, EXPLAIN: V1, COUNT.lower(): "1"})

    def answer(self, asked: EmbeddingsRequest, response: Response) -> Response:
        """Return the model's response in OpenAI's form."""
        if response.error or response.status != 200:
            return self._refusal(response)
        vectors = msgspec.json.decode(response.body)["predictions"]
        data = [
            {"object": "embedding", "index": i, "embedding": _written(row, asked.encoding_format)}
            for i, row in enumerate(vectors)
        ]
        tokens = int(response.headers.get(COUNT, "0"))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        headers = {name: value for name, value in response.headers.items() if name != COUNT}
        body = {"object": "list", "data": data, "model": asked.model, "usage": usage}
        return Response(200, msgspec.json.encode(body), headers=headers)

    def _refusal(self, response: Response) -> Response:
        error = response.error or InputError("internal", "the model failed")
        path = error.path.replace("$.instances", "$.input").removesuffix(f".{self.name}")
        told = InputError(error.code, error.message, path, error.expected)
        return Response(response.status, error_body(told), headers=response.headers, error=told, cause=response.cause)


def embedder_of(contract: ModelContract) -> Embedder | None:
    """Return how a model embeds texts; None if it does not."""
    text, *more = contract.inputs
    vector, *others = contract.outputs
    takes_text = not more and text.is_text
    gives_vector = not others and vector.datatype == "FP32" and len(vector.shape) == 2 and vector.shape[1] > 0
    if contract.task != "tensors" or not (takes_text and gives_vector):
        return None
    return Embedder(contract.name, text.name, vector.shape[1])


def _describe(path: str) -> str:
    name = path.removeprefix("$.").partition("[")[0]
    return _TEXTS if name == "input" else "" if name in _FIELDS else f"one of {', '.join(_FIELDS)}"


def _written(vector: list[float], form: str | None) -> Any:
    return base64.b64encode(np.array(vector, "<f4").tobytes()).decode() if form == "base64" else vector
