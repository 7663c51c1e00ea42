"""A folder of transformers that labels tokens becomes an archive that answers the entities of its pipeline."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from handlers.contract.example import same_answer
from handlers.formats.text import TRUNCATED
from handlers.formats.tokens import CHARACTERS
from handlers.message import JSON, NPY, Request
from serving.registry import Registry
from tests.support.handlers import wire
from tests.support.training.huggingface import POSITIONS, save, transformers
from tests.training.bring.test_huggingface import ODD, Served, changed
from training.bring import sources
from training.bring.draft import ImportOptions, draft
from training.bring.graph import BringError
from training.bring.importing import bring

LABELS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
HEAD = "ForTokenClassification"
READ = CHARACTERS * POSITIONS  # of a text, by a worker: what is cut off is told
KEYS = ["entity_group", "score", "word", "start", "end"]


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("roberta")
    return Served(save(folder / "model", "Roberta", HEAD, id2label=LABELS), folder)


def pipeline(folder: Path) -> Any:
    """The folder's own, which reads marks in a text, and cuts texts, as a worker does."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        folder, split_special_tokens=True, model_max_length=POSITIONS
    )
    options = {"tokenizer": tokenizer, "aggregation_strategy": "simple"}
    return transformers.pipeline("token-classification", model=str(folder), **options)


@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "Roberta"])
def test_odd_texts_have_the_entities_of_the_pipeline_alone_and_together(tmp_path: Path, kind: str) -> None:
    folder = save(tmp_path / "model", kind, HEAD, id2label=LABELS)
    served, pipe = Served(folder, tmp_path), pipeline(folder)
    contract = served.contract
    assert (contract.task, contract.labels, contract.format) == ("tensors", tuple(LABELS.values()), 2)
    together = served.ask(*({"text": text} for text in ODD))
    counts = set()
    for text, batched in zip(ODD, together, strict=True):
        (alone,) = served.ask({"text": text})
        assert alone[0] == batched[0]
        if alone[0] == 400:
            assert pipe(text) == []
            continue
        wanted = [{name: answer[name] for name in KEYS} for answer in pipe(text[:READ])]
        for _, answer in (alone, batched):
            assert [list(entity) for entity in answer["prediction"]] == [KEYS] * len(wanted)
            for entity, right in zip(answer["prediction"], wanted, strict=True):
                word = text[right["start"] : right["end"]]  # the pipeline's own is of its tokens, not of the text
                assert entity == right | {"word": word, "score": pytest.approx(right["score"], abs=1e-5)}
        counts.add(len(wanted))
    assert len(counts) > 5


def test_v1_has_a_list_a_text_and_v2_fills_shorter_ones_up(roberta: Served) -> None:
    texts = ["a fine film, drags on; what a cast!", "not bad", "שלום 😀 film"]
    singles = [roberta.ask({"text": text})[0][1]["prediction"] for text in texts]
    most = max(map(len, singles))
    assert len({len(single) for single in singles}) > 1
    ((_, answer),) = roberta.ask({"instances": [{"text": text} for text in texts]})
    assert same_answer(answer["predictions"], singles, 1e-5)
    tensor = {"name": "text", "shape": [3], "datatype": "BYTES", "data": texts}
    ((_, answer),) = roberta.ask({"inputs": [tensor]})
    outputs = {output["name"]: np.reshape(output["data"], output["shape"]).tolist() for output in answer["outputs"]}
    assert list(outputs) == KEYS
    for i, single in enumerate(singles):
        columns = {name: [entity[name] for entity in single] for name in KEYS}
        assert same_answer({name: outputs[name][i][: len(single)] for name in KEYS}, columns, 1e-5)
        assert outputs["entity_group"][i][len(single) :] == [""] * (most - len(single))
        assert outputs["start"][i][len(single) :] == [-1] * (most - len(single))


def test_numpy_is_answered_in_json_and_a_cut_text_is_told(roberta: Served) -> None:
    texts = {"text": np.array(["film " * 200, "not bad"], object)}
    request = wire.npy(roberta.contract, texts)
    (response,) = roberta.handler.handle([request._replace(headers={**request.headers, "accept": NPY})])
    answers = msgspec.json.decode(response.body)["predictions"]
    assert (response.status, len(answers), response.headers[TRUNCATED]) == (200, 2, "0")


def test_there_are_no_classes_to_ask_for(roberta: Served) -> None:
    body = msgspec.json.encode({"text": "not bad"})
    (response,) = roberta.handler.handle([Request(body, {"content-type": JSON, "x-top-k": "2"}, id="r")])
    assert response.error is not None
    assert (response.status, response.error.expected) == (400, "no top_k: this model has no classes")


def test_other_labels_may_be_given_as_many_as_there_are(tmp_path: Path) -> None:
    model = sources.read(save(tmp_path / "model", "Bert", HEAD, num_labels=3))
    names = ("O", "good", "bad")
    drafted = draft(model, ImportOptions(name="model", labels=names))
    assert bring(drafted, Registry(tmp_path / "store")).contract.labels == names
    with pytest.raises(BringError, match="each token has a score for each of 3 labels: the task is tensors"):
        draft(model, ImportOptions(name="model", labels=names[:2]))
    with pytest.raises(BringError, match="each token has a score for each of 3 labels: the task is tensors"):
        draft(model, ImportOptions(name="model", task="classification"))


def test_a_tokenizer_that_splits_otherwise_in_a_worker_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "Bert", HEAD, id2label=LABELS)
    model = sources.read(folder)
    assert model.original is not None
    model.original._split._tokenizer.no_truncation()  # type: ignore[attr-defined]
    with pytest.raises(BringError, match="a worker does not split 'film film .*' as the folder's tokenizer does"):
        model.original.run({"text": np.array(["film " * 200], object)})
    changed(folder, id2label={str(i): "same" for i in LABELS})
    with pytest.raises(BringError, match="two of its labels are the same"):
        sources.read(folder)
