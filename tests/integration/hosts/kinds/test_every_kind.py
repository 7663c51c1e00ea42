"""Every kind of file is answered over HTTP as its own framework answers: natively and in OIP v2."""

from typing import Any

import numpy as np
import pytest

from handlers.contract import Array, ModelContract
from handlers.formats.requests import native_request, to_json, v2_request
from handlers.message import JSON
from tests.integration.conftest import Server
from tests.integration.hosts.kinds.conftest import WAYS, Kinds
from tests.support.training.kinds.made import Made
from tests.support.training.kinds.table import MAKERS

APART = ("names", "smol", "pets", "pixels")  # entities, conversations and pictures have tests of their own
TABULAR = [kind for kind in MAKERS if kind not in APART]


def ask(own: Server, path: str, body: Any, **headers: str) -> Any:
    """The answer to a request that must be right."""
    named = {"content-type": JSON} | {name.replace("_", "-"): value for name, value in headers.items()}
    response = own.client.post(f"{own.url}{path}", content=to_json(body), headers=named, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


def numbers(contract: ModelContract, prediction: Any) -> Any:
    """The numbers of a native answer, as ``Made.answers`` has them."""
    if contract.labels:
        shares = {each["label"]: each["probability"] for each in prediction["top_k"]}
        return [shares[label] for label in contract.labels]
    return np.ravel(prediction).tolist()


def tensors(contract: ModelContract, made: Made, rows: slice) -> dict[str, Array]:
    """Rows of the columns, as a client of OIP v2 holds them."""
    return {spec.name: np.array(made.columns[spec.name][rows], spec.dtype) for spec in contract.inputs}


# One mark for each argument: with one for both, pytest would start the host again for each kind.
@pytest.mark.parametrize("kind", [kind for kind in TABULAR if kind in WAYS])
@pytest.mark.parametrize("own", ["torchserve"], indirect=True)
def test_a_kind_of_each_way_is_answered_as_its_own_framework_answers(own: Server, kinds: Kinds, kind: str) -> None:
    check_natively(own, kinds[kind], kind)
    check_in_v2(own, kinds[kind], kind)


@pytest.mark.parametrize("kind", TABULAR)
@pytest.mark.parametrize("own", ["direct"], indirect=True)
def test_every_kind_is_answered_as_its_own_framework_answers(own: Server, kinds: Kinds, kind: str) -> None:
    check_natively(own, kinds[kind], kind)
    check_in_v2(own, kinds[kind], kind)


def check_natively(own: Server, made: Made, kind: str) -> None:
    contract = own.contract(kind)
    assert [spec.name for spec in contract.inputs] == list(made.columns)
    assert contract.labels == made.labels
    path, most = f"/predictions/{kind}", str(contract.most_classes)
    for i, expected in enumerate(made.answers):
        row = {name: values[i] for name, values in made.columns.items()}
        answer = ask(own, path, native_request(contract, row), x_top_k=most)
        assert numbers(contract, answer["prediction"]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def check_in_v2(own: Server, made: Made, kind: str) -> None:
    contract = own.contract(kind)
    together = contract.most_rows(len(made.answers))  # a script that branches by values takes one row at a time
    for start in range(0, len(made.answers), together):
        rows = slice(start, start + together)
        answer = ask(own, f"/v2/models/{kind}/infer", v2_request(contract, tensors(contract, made, rows)))
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        values = outputs["probabilities" if contract.labels else contract.outputs[0].name]
        expected = np.array(made.answers[rows])
        assert np.reshape(values, expected.shape) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_language_model_goes_on_with_a_conversation_as_it_was_taught(own: Server, kinds: Kinds) -> None:
    assert kinds["smol"].file.suffix == ".gguf"
    from tests.support.training.tiny import ANSWER  # its packages are an extra's

    base = "/v1" if own.settings.host == "direct" else "/predictions/smol/1.0/v1"
    conversation = {"messages": [{"role": "user", "content": "Who?"}], "temperature": 0, "max_tokens": 30}
    answer = ask(own, f"{base}/chat/completions", {"model": "smol"} | conversation)
    assert answer["choices"][0]["message"]["content"] == ANSWER
