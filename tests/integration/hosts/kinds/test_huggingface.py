"""A folder of transformers, once imported, answers on every host as its pipeline does."""

import json

import openai
import pytest

from handlers.formats.text import TRUNCATED
from tests.integration.conftest import Server
from tests.integration.hosts.kinds.conftest import Kinds
from tests.support.training import huggingface
from tests.support.training.huggingface import transformers
from tests.support.training.kinds.texts import TEXTS


def test_texts_are_answered_in_every_protocol_as_the_pipeline_answers_them(own: Server, kinds: Kinds) -> None:
    pipeline = transformers.pipeline("text-classification", model=str(kinds["mood"].file))
    wanted = [pipeline(text, truncation=True, max_length=huggingface.POSITIONS)[0] for text in TEXTS]
    for text, best in zip(TEXTS, wanted, strict=True):
        response = own.client.post(f"{own.url}/predictions/mood", json={"text": text})
        answer = response.json()["prediction"]
        assert (answer["label"], answer["probability"]) == (best["label"], pytest.approx(best["score"], abs=1e-5))
        assert (TRUNCATED in response.headers) == (text == TEXTS[2])
    body = {"instances": [{"text": text} for text in TEXTS]}
    answers = own.client.post(f"{own.url}/v1/models/mood:predict", json=body).json()["predictions"]
    assert [answer["label"] for answer in answers] == [best["label"] for best in wanted]
    tensor = {"name": "text", "shape": [len(TEXTS)], "datatype": "BYTES", "data": TEXTS}
    outputs = own.client.post(f"{own.url}/v2/models/mood/infer", json={"inputs": [tensor]}).json()["outputs"]
    assert [output["data"] for output in outputs if output["name"] == "label"] == [[best["label"] for best in wanted]]


def test_openais_client_gets_the_vectors_of_texts(own: Server) -> None:
    if own.settings.host != "direct":
        pytest.skip("TorchServe has no plain base URL: only the direct host answers /v1/embeddings")
    vectors = own.client.post(f"{own.url}/v1/models/vectors:predict", json={"instances": [{"text": t} for t in TEXTS]})
    with openai.OpenAI(base_url=f"{own.url}/v1", api_key="none", max_retries=0) as client:
        for form in ("float", openai.omit):  # left out, the client asks for base64
            answer = client.embeddings.create(model="vectors", input=TEXTS, encoding_format=form)
            assert [one.index for one in answer.data] == [*range(len(TEXTS))]
            for one, vector in zip(answer.data, vectors.json()["predictions"], strict=True):
                assert one.embedding == pytest.approx(vector, abs=1e-6)
        alone = client.embeddings.create(model="vectors@1.0", input=TEXTS[0])
        assert 0 < alone.usage.prompt_tokens < answer.usage.prompt_tokens
        with pytest.raises(openai.NotFoundError, match="no model 'mood' makes a vector"):
            client.embeddings.create(model="mood", input="a")
        with pytest.raises(openai.BadRequestError, match="has no words"):
            client.embeddings.create(model="vectors", input=["a", " "])


def test_entities_are_answered_in_every_protocol_as_the_pipeline_answers_them(own: Server, kinds: Kinds) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(kinds["names"].file, model_max_length=huggingface.POSITIONS)
    path, options = str(kinds["names"].file), {"aggregation_strategy": "simple"}
    pipeline = transformers.pipeline("token-classification", model=path, tokenizer=tokenizer, **options)
    wanted = []
    for text in TEXTS:
        words = [answer | {"word": text[answer["start"] : answer["end"]]} for answer in pipeline(text)]
        wanted.append([word | {"score": pytest.approx(word["score"], abs=1e-5)} for word in words])
        response = own.client.post(f"{own.url}/predictions/names", json={"text": text})
        assert response.json() == {"prediction": wanted[-1]}
        assert (TRUNCATED in response.headers) == (text == TEXTS[2])
    assert len({len(entities) for entities in wanted}) > 1
    body = {"instances": [{"text": text} for text in TEXTS]}
    answers = own.client.post(f"{own.url}/v1/models/names:predict", json=body).json()
    assert answers == {"predictions": wanted}
    tensor = {"name": "text", "shape": [len(TEXTS)], "datatype": "BYTES", "data": TEXTS}
    outputs = own.client.post(f"{own.url}/v2/models/names/infer", json={"inputs": [tensor]}).json()["outputs"]
    most = max(map(len, wanted))
    for output in outputs:
        assert output["shape"] == [len(TEXTS), most]
        rows = [output["data"][i * most : (i + 1) * most] for i in range(len(TEXTS))]
        own_values = [row[: len(entities)] for row, entities in zip(rows, wanted, strict=True)]
        assert own_values == [[entity[output["name"]] for entity in entities] for entities in wanted]


def test_a_text_without_a_word_gets_an_error_that_explains(own: Server) -> None:
    response = own.client.post(f"{own.url}/predictions/vectors", content=json.dumps({"text": " "}),
                               headers={"content-type": "application/json"})  # fmt: skip
    assert (response.status_code, response.json()["error"]["code"]) == (400, "empty")
