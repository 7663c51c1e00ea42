"""A folder of transformers, once imported, answers on every host as its pipeline does."""

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from handlers.formats.text import TRUNCATED
from serving.registry import Registry
from tests.integration.conftest import Server, monitored
from tests.support.training import huggingface
from tests.support.training.huggingface import save, save_sentences, transformers
from training.bring import sources
from training.bring.draft import ImportOptions, draft
from training.bring.importing import bring
from training.bring.sources import Reading

ENTITIES = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
TEXTS = ["a fine film", "the worst film of the year 😀", "not bad at all " * 50, "שלום"]


def import_folder(path: Path, examples: Path) -> None:
    options = ImportOptions(name=path.name, example=examples)
    bring(draft(sources.read(path, Reading(examples)), options), Registry(path.parent / "store"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders, and a store of their imported models: of texts' classes, of their vectors and of their entities."""
    folder = tmp_path_factory.mktemp("folders")
    save(folder / "mood", "Roberta", "ForSequenceClassification", id2label=huggingface.EMOTIONS)
    save_sentences(folder / "vectors", "Bert", {"pooling_mode_mean_tokens": True}, normalize=True, most=32)
    save(folder / "names", "DistilBert", "ForTokenClassification", id2label=ENTITIES)
    (folder / "texts.txt").write_text("\n".join(TEXTS))
    for name in ("mood", "vectors", "names"):
        import_folder(folder / name, folder / "texts.txt")
    return folder


@pytest.fixture(scope="module", params=["torchserve", "direct"])
def own(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    runs = tmp_path_factory.mktemp("hosts") / "runs"
    with monitored(folder / "store", runs, {"MARLOOP_PROBE_INTERVAL": "0.2"}, request.param) as server:
        yield server


def test_texts_are_answered_in_every_protocol_as_the_pipeline_answers_them(own: Server, folder: Path) -> None:
    pipeline = transformers.pipeline("text-classification", model=str(folder / "mood"))
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


def test_vectors_are_of_length_one_and_those_of_the_import(own: Server) -> None:
    contract = own.contract("vectors")
    answer = own.client.post(f"{own.url}/predictions/vectors", json=contract.example.request).json()
    assert answer["prediction"] == pytest.approx(contract.example.response["prediction"], abs=1e-5)
    assert sum(value**2 for value in answer["prediction"]) == pytest.approx(1, abs=1e-5)


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


def test_entities_are_answered_in_every_protocol_as_the_pipeline_answers_them(own: Server, folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "names", model_max_length=huggingface.POSITIONS)
    path, options = str(folder / "names"), {"aggregation_strategy": "simple"}
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
