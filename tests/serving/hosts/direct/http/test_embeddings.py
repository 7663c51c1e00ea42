"""OpenAI's "Create embeddings": what is read of a request, which model answers it, and in which form."""

import asyncio
import base64
import json
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from handlers.contract import ModelContract, TensorSpec
from handlers.formats.text import COUNT
from handlers.http.kserve import EXPLAIN
from handlers.message import InputError, Request, Response
from serving.hosts.direct.http.embeddings import embed, embedder_of
from serving.hosts.direct.routes import Target
from tests.support.handlers.models import contract

TEXT, MORE = TensorSpec("text", "BYTES"), TensorSpec("more", "BYTES")
VECTOR = TensorSpec("embedding", "FP32", (-1, 2))


def model(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...] = (VECTOR,)) -> ModelContract:
    return msgspec.structs.replace(contract(*inputs, name="vectors"), task="tensors", outputs=outputs)


class Batches:
    """Makes of each text the vector of its length and its number; or refuses as it is told."""

    def __init__(self, refusal: InputError | None = None) -> None:
        self.asked: list[Request] = []
        self._refusal = refusal

    def admit(self, size: int, patience: float) -> None:
        assert size > 0

    async def submit(self, request: Request, patience: float) -> Response:
        self.asked.append(request)
        if self._refusal:
            return Response(400, b"{}", error=self._refusal)
        rows = json.loads(request.body)["instances"]
        vectors = [[float(len(row["text"])), float(i)] for i, row in enumerate(rows)]
        return Response(200, json.dumps({"predictions": vectors}).encode(), headers={COUNT: "7", "X-Other": "1"})


def ask(members: Any, batches: Batches | None = None, allowed: Any = None) -> tuple[Response, Batches]:
    batches = batches or Batches()
    vectors, other = (
        Target("", SimpleNamespace(contract=model(inputs), batches=batches, patience=1.0))
        for inputs in ((TEXT,), (TEXT, MORE))
    )
    targets = {"/predictions/vectors": vectors, "/predictions/vectors/1.0": vectors, "/predictions/other": other}
    asked = {"model": "vectors", "input": "abc"}
    body = members if isinstance(members, bytes) else json.dumps(asked | members).encode()
    headers = {"content-type": "text/plain", "accept": "text/html", "x-mine": "1"}
    return asyncio.run(embed(Request(body, headers, {}, "a"), targets, allowed)), batches


def test_a_text_or_several_become_vectors_in_order() -> None:
    response, batches = ask({})
    assert json.loads(response.body) == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [3.0, 0.0]}],
        "model": "vectors",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    assert dict(response.headers) == {"X-Other": "1"}
    (asked,) = batches.asked
    wanted = {"content-type": "application/json", EXPLAIN: "v1", "x-mine": "1", COUNT.lower(): "1"}
    assert asked.headers == wanted
    several, _ = ask({"input": ["a", "bb"], "model": "vectors@1.0", "user": "me", "dimensions": 2})
    assert [one["embedding"] for one in json.loads(several.body)["data"]] == [[1.0, 0.0], [2.0, 1.0]]


def test_numbers_are_written_in_base64_where_a_client_asks_for_it() -> None:
    response, _ = ask({"encoding_format": "base64"})
    written = json.loads(response.body)["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(written), "<f4").tolist() == [3.0, 0.0]


@pytest.mark.parametrize(
    ("members", "code", "path"),
    [
        ({"input": ""}, "empty", "$.input"),
        ({"input": []}, "empty", "$.input"),
        ({"input": [1, 2]}, "wrong_type", "$.input[0]"),
        ({"input": None}, "wrong_type", "$.input"),
        ({"dimensions": 3}, "invalid_parameter", "$.dimensions"),
        ({"encoding_format": "int8"}, "unknown_category", "$.encoding_format"),
        ({"truncate": True}, "unknown_field", "$.truncate"),
        ({"model": "gpt"}, "model_not_found", "model"),
        ({"model": "vectors@9.9"}, "model_not_found", "model"),
        ({"model": "vectors@"}, "model_not_found", "model"),
        ({"model": "other"}, "model_not_found", "model"),
        (b"{", "invalid_json", "$"),
        (b"", "invalid_json", "$"),
    ],
)
def test_what_cannot_be_embedded_is_refused_with_its_place(members: Any, code: str, path: str) -> None:
    with pytest.raises(InputError) as caught:
        ask(members)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_a_key_for_other_models_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        ask({}, allowed={"other"})
    assert caught.value.code == "forbidden"


def test_what_the_model_refuses_has_the_place_in_the_clients_request() -> None:
    refusal = InputError("empty", "text has no words", "$.instances[0].text", "a word")
    response, _ = ask({"input": [" "]}, Batches(refusal))
    error = json.loads(response.body)["error"]
    assert (response.status, error["param"], error["code"]) == (400, "input[0]", "empty")


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ((TensorSpec("x", "FP32"),), (VECTOR,)),
        ((TensorSpec("x", "BYTES", categories=("a",)),), (VECTOR,)),
        ((TEXT,), (TensorSpec("y", "FP32"),)),
        ((TEXT,), (TensorSpec("y", "INT64", (-1, 2)),)),
        ((TEXT,), (TensorSpec("y", "FP32", (-1, -1)),)),
        ((TEXT,), (VECTOR, TensorSpec("more", "FP32", (-1, 2)))),
    ],
)
def test_no_other_model_embeds(inputs: Any, outputs: Any) -> None:
    assert embedder_of(model(inputs, outputs)) is None
