"""A model of texts beside one of numbers, through a real TorchServe."""

import asyncio
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest

from handlers.contract.example import same_answer
from handlers.formats.text import TRUNCATED
from loadtests.requests import payloads
from loadtests.requests.answers import complaint
from loadtests.requests.faults import faults
from tests.integration.conftest import Server, put, serve, settings_for

TEXTS = ["A fine film.", "It drags on and on, and then it stops.", "Bad."]
LONG = "A fine film. " * 100


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """TorchServe with `sentiment`, hardly trained, and `linear`."""
    store = put(tmp_path_factory.mktemp("texts") / "store", "linear", "sentiment")  # skips where there are no weights
    with tempfile.TemporaryDirectory() as run_dir, serve(settings_for(store, Path(run_dir))) as running:
        pids = running.worker_pids()
        yield running
        assert running.worker_pids() == pids  # no text killed a worker


def ask(server: Server, body: object, path: str = "/predictions/sentiment") -> httpx.Response:
    return server.client.post(server.url + path, json=body)


def labels(server: Server, texts: list[str]) -> list[str]:
    """The label of each text, asked alone."""
    return [ask(server, {"text": text}).json()["prediction"]["label"] for text in texts]


def test_a_text_is_answered_with_its_label_and_as_the_contract_says(server: Server) -> None:
    contract = server.contract("sentiment")
    assert same_answer(ask(server, contract.example.request).json(), contract.example.response)
    answer = ask(server, {"text": TEXTS[0]}).json()["prediction"]
    assert answer["label"] in contract.labels
    assert 1 / 3 <= answer["probability"] <= 1


def test_many_texts_in_one_request_get_the_answers_that_each_gets_alone(server: Server) -> None:
    body = {"instances": [{"text": text} for text in TEXTS]}
    found = ask(server, body, "/v1/models/sentiment:predict").json()["predictions"]
    assert [one["label"] for one in found] == labels(server, TEXTS)
    tensor = {"name": "text", "shape": [len(TEXTS)], "datatype": "BYTES", "data": TEXTS}
    outputs = ask(server, {"inputs": [tensor]}, "/v2/models/sentiment/infer").json()["outputs"]
    (label,) = [output["data"] for output in outputs if output["name"] == "label"]
    assert label == labels(server, TEXTS)


def test_texts_arrive_as_binary_tensors(server: Server) -> None:
    blob = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in TEXTS)
    size = {"binary_data_size": len(blob)}
    tensor = {"name": "text", "shape": [len(TEXTS)], "datatype": "BYTES", "parameters": size}
    head = msgspec.json.encode({"inputs": [tensor]})
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    response = server.client.post(f"{server.url}/v2/models/sentiment/infer", content=head + blob, headers=headers)
    assert response.status_code == 200, response.text
    (label,) = [output["data"] for output in response.json()["outputs"] if output["name"] == "label"]
    assert label == labels(server, TEXTS)


def test_a_long_text_is_answered_by_its_beginning_and_a_header_says_so(server: Server) -> None:
    response = ask(server, {"text": LONG})
    assert (response.status_code, response.headers[TRUNCATED]) == (200, "0")
    assert response.json() == ask(server, {"text": LONG + "Bad." * 1000}).json()
    assert TRUNCATED not in ask(server, {"text": TEXTS[0]}).headers
    many = ask(server, {"instances": [{"text": TEXTS[0]}, {"text": LONG}, {"text": TEXTS[1]}, {"text": LONG}]})
    assert many.headers[TRUNCATED] == "1,3"


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_text_is_a_400_that_says_where(server: Server, text: str) -> None:
    response = ask(server, {"instances": [{"text": "Fine."}, {"text": text}]})
    error = response.json()
    assert (response.status_code, error["code"], error["path"]) == (400, "empty", "$.instances[1].text")


def test_a_bad_text_harms_nobody_in_its_batch_and_the_other_model_answers_meanwhile(server: Server) -> None:
    good = [f"{text} Take {i}." for i in range(8) for text in TEXTS]
    bodies = [msgspec.json.encode({"text": text}) for text in good]
    alone = [ask(server, {"text": text}).json() for text in good]
    bad = [b"{", b'{"text": ""}', b'{"text": 6}', b'{"text": "\xff"}', b'{"text": "\\ud800"}', b"{}"]
    crowd = [(body, i) for i, body in enumerate(bodies)] + [(body, -1) for body in bad * 3]
    crowd = [crowd[i] for i in np.random.default_rng(0).permutation(len(crowd))]

    async def ask_all() -> tuple[list[httpx.Response], list[httpx.Response]]:
        async with httpx.AsyncClient(timeout=60, headers={"Content-Type": "application/json"}) as client:
            url = server.url + "/predictions/"
            texts = asyncio.gather(*(client.post(url + "sentiment", content=body) for body, _ in crowd))
            numbers = asyncio.gather(*(client.post(url + "linear", content=b'{"x": 6}') for _ in range(20)))
            return await texts, await numbers

    texts, numbers = asyncio.run(ask_all())
    for (_, i), response in zip(crowd, texts, strict=True):
        assert response.status_code == (400 if i < 0 else 200)
        if i >= 0:
            assert same_answer(response.json(), alone[i])
    assert {response.status_code for response in numbers} == {200}


def test_what_the_load_test_draws_is_answered_as_it_expects(server: Server) -> None:
    contract, rng = server.contract("sentiment"), np.random.default_rng(0)
    drawn = [payloads.valid(contract, rng, protocol) for protocol in payloads.FORMATS]
    for payload in [*drawn, payloads.edge(contract, rng), *faults(contract, rng)]:
        url = server.url + payload.path("sentiment")
        response = server.client.post(url, content=payload.body, headers=payload.headers)
        assert complaint(contract, payload, response.status_code, response.content) == "", payload.body[:100]
