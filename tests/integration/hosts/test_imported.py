"""A model that was imported is served, watched, loaded and promoted on every host, as one that was trained here."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.registry import Registry
from serving.settings import ROOT
from tests.chaos.load import RIGHT, Question, clients
from tests.integration.conftest import Server, environment
from tests.support.training import graphs
from tests.support.waiting import wait_until
from tests.training.bring.test_targets import MATRIX
from tests.training.conftest import Commands

ROWS = "age,income,debt,rate\n" + "".join(f"{i},{i % 7},{i % 3},{i + 2 * (i % 7) + 3 * (i % 3)}\n" for i in range(300))
FLIGHTS = "wind,load,delay,fuel\n" + "".join(
    f"{i % 9},{i % 7},{i % 9 + 2 * (i % 7)},{10 * (i % 9) + 20 * (i % 7)}\n" for i in range(300)
)
CENTS = "def postprocess(outputs):\n    return {'cents': 100 * outputs['variable'][:, 0]}\n"
CREDIT = {"age": 30, "income": 2, "debt": 1}


def command(*arguments: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bring(folder: Path, file: Path, *options: str | Path) -> str:
    """Import a file into the store of a folder, in this process, which has imported the libraries already."""
    code, output = Commands(folder)("import", *map(str, (file, *options)))
    assert code == 0, output
    return output


def check_load_finds_every_answer_right(server: Server, folder: Path) -> None:
    """Load all models of a host for some seconds; the answers are judged, and not how busy the machine is."""
    slo = folder / "slo.yaml"
    slo.write_text("default: {p95_ms: 10000, p99_ms: 10000, error_ratio: 0, throughput: 1}")
    options = ("--profile", "smoke", "--time", "4", "--users", "6", "--slo", slo, "--reports", folder / "reports")
    command("loadtests", "run", *options, env=environment(server.settings))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six imported models, the first of them in two versions; its first import is a process, as a user starts it."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "rows.csv").write_text(ROWS)
    (folder / "texts.json").write_text(json.dumps({"input_ids": [3, 4], "attention_mask": [1, 1]}))
    credit = graphs.save(graphs.REGRESSION, folder / "credit.onnx")
    options = ("--name", "credit", "--data", folder / "rows.csv", "--target", "rate", "--promote", "never")
    assert "rmse 0.0000" in command("training", "import", credit, *options, "--store", folder / "store")
    assert "rmse 0.0000" in bring(folder, credit, *options)
    command("serving", "promote", "credit", "1.0", env=os.environ | {"MARLOOP_MODEL_STORE": str(folder / "store")})
    heads, boxes = (graphs.save(text, folder / f"{name}.onnx") for name, text in
                    (("texts", graphs.HEADS), ("boxes", graphs.BOXES)))  # fmt: skip
    (folder / "pads.yaml").write_text("inputs: {input_ids: {pad: 9}, attention_mask: {pad: 0}}")
    bring(folder, heads, "--name", "texts", "--example", folder / "texts.json", "--contract", folder / "pads.yaml")
    (folder / "flights.csv").write_text(FLIGHTS)
    matrix = graphs.save(MATRIX, folder / "flight.onnx")
    rows = ("--data", folder / "flights.csv", "--target", "delay,fuel")
    assert "rmse of fuel 0.0000" in bring(folder, matrix, "--name", "flight", *rows)
    bring(folder, boxes, "--name", "boxes")
    (folder / "gaps.csv").write_text("age,debt\n,3\n" + "".join(f"{i % 40},{i % 9 or ''}\n" for i in range(900)))
    gaps = graphs.save(graphs.GAPS, folder / "gaps.onnx")
    told = bring(folder, gaps, "--name", "gaps", "--data", folder / "gaps.csv")
    assert "or null (guessed: 100 rows of gaps.csv lack it; the graph gets NaN)" in told
    (folder / "hooks.py").write_text(CENTS)
    bring(folder, credit, "--name", "cents", "--hooks", folder / "hooks.py")
    return folder / "store"


def ask(server: Server, method: str, path: str, **request: Any) -> httpx.Response:
    return httpx.request(method, f"{server.settings.monitor_url}{path}", timeout=60, trust_env=False, **request)


def test_it_answers_in_every_protocol_as_its_file_does(own: Server) -> None:
    assert own.client.post(f"{own.url}/predictions/credit", json=CREDIT).json() == {"prediction": 37.0}
    answer = own.client.post(f"{own.url}/v1/models/credit:predict", json={"instances": [CREDIT, CREDIT]}).json()
    assert answer == {"predictions": [37.0, 37.0]}
    tensors = [
        {"name": "input_ids", "shape": [1, 3], "datatype": "INT64", "data": [1, 2, 3]},
        {"name": "attention_mask", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]},
    ]
    answer = own.client.post(f"{own.url}/v2/models/texts/infer", json={"inputs": tensors}).json()
    assert [(output["name"], output["shape"], output["data"]) for output in answer["outputs"]] == [
        ("total", [1], [6.0]),
        ("masked_1", [1, 3], [1.0, 2.0, 3.0]),
    ]
    found = own.client.post(f"{own.url}/predictions/boxes", json={"inputs": [5, -1, 4, -1]}).json()
    assert found == {"prediction": {"boxes": [[5, 5], [4, 4]], "scores": [5, 4]}}
    assert own.client.post(f"{own.url}/predictions/cents", json={"inputs": [1, 2, 3]}).json() == {"prediction": 1400.0}


def test_texts_of_other_lengths_that_come_together_are_answered_as_alone(own: Server) -> None:
    def answer(length: int) -> Any:
        body = {"input_ids": [*range(1, length + 1)], "attention_mask": [1] * length}
        return own.client.post(f"{own.url}/predictions/texts", json=body).json()

    lengths = [1 + i % 7 for i in range(60)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(answer, lengths)) == [
            {"prediction": {"total": length * (length + 1) / 2, "masked_1": [*range(1, length + 1)]}}
            for length in lengths
        ]


def test_each_of_several_targets_is_answered_labelled_and_measured_by_name(own: Server) -> None:
    for i in range(30):
        headers = {"X-Request-Id": f"flight-{i}"}
        answer = own.client.post(f"{own.url}/predictions/flight", json={"wind": i % 9, "load": 1}, headers=headers)
        assert answer.json() == {"prediction": {"delay": i % 9 + 2, "fuel": 10 * (i % 9) + 20}}
    labels = [
        {"request_id": f"flight-{i}", "label": {"delay": i % 9 + 2, "fuel": 10 * (i % 9) + 21}} for i in range(30)
    ]
    assert ask(own, "POST", "/feedback", json=labels).status_code == 200

    def quality() -> dict[str, float]:
        measured = ask(own, "GET", "/models/flight/quality").json()["all"]
        metrics = measured["metrics"] if measured and measured["rows"] == 30 else {}
        return {name: metric["value"] for name, metric in metrics.items()}

    wait_until(lambda: bool(quality()))
    errors = {name: pytest.approx(value) for name, value in quality().items()}
    assert errors == {"rmse": 0, "mae": 0, "bias": 0, "rmse of fuel": 1, "mae of fuel": 1, "bias of fuel": -1}
    findings = ask(own, "GET", "/models/flight/drift").json()["findings"]
    assert {"prediction", "error", "prediction of fuel", "error of fuel"} < {finding["name"] for finding in findings}
    page = ask(
        own, "POST", "/console/models/flight/try", data={"wind": "1", "load": "1"}, headers={"HX-Request": "true"}
    )
    assert page.status_code == 200, page.text
    assert "fuel" in page.text


def test_values_may_be_missing_in_every_protocol_and_are_watched_as_missing(own: Server) -> None:
    expected = {"prediction": 24.0}  # the graph takes 20 for NaN
    for body in (b'{"age": null, "debt": 4}', b'{"debt": 4}', b'{"age": NaN, "debt": 4}'):
        headers = {"Content-Type": "application/json"}
        assert own.client.post(f"{own.url}/predictions/gaps", content=body, headers=headers).json() == expected
    debts = {"inputs": [{"name": "debt", "shape": [20], "datatype": "FP64", "data": [4] * 20}]}

    def drifted() -> bool:
        answer = own.client.post(f"{own.url}/v2/models/gaps/infer", json=debts).json()
        assert answer["outputs"][0]["data"] == [24.0] * 20
        findings = ask(own, "GET", "/models/gaps/drift").json()["findings"]
        return any(finding["alarm"] for finding in findings if finding["name"] == "age missing")

    wait_until(drifted)


def test_a_wrong_request_gets_an_error_that_explains(own: Server) -> None:
    response = own.client.post(f"{own.url}/predictions/texts", json={"input_ids": [1, 2], "attention_mask": [1]})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "wrong_shape")
    assert "the same size T in input_ids and attention_mask" in response.json()["error"]["expected"]


def test_it_is_probed_counted_captured_and_has_a_page_and_a_form(own: Server) -> None:
    wait_until(lambda: ask(own, "GET", "/readyz").status_code == 200)

    def captured() -> dict[str, int]:
        return {model["name"]: model["predictions"] for model in ask(own, "GET", "/models").json()}

    before = captured()
    texts = {"input_ids": [1, 2], "attention_mask": [1, 1]}
    for name, body in {"credit": CREDIT, "texts": texts, "boxes": {"inputs": [1, 2, 3, 4]}}.items():
        assert own.client.post(f"{own.url}/predictions/{name}", json=body).status_code == 200
    wait_until(lambda: all(captured()[name] > before[name] for name in ("credit", "texts", "boxes")))
    metrics = httpx.get(f"{own.settings.exporter_url}/metrics", timeout=30, trust_env=False).text
    for name in ("credit", "texts", "boxes"):
        assert f'model="{name}"' in metrics
        assert ask(own, "GET", f"/console/models/{name}").status_code == 200
        assert ask(own, "GET", f"/models/{name}/drift").status_code == 200
        assert ask(own, "GET", f"/models/{name}/quality").status_code == 200
    origin = {"HX-Request": "true"}
    form = {"input_ids": "[1, 2]", "attention_mask": "[1, 0]"}
    page = ask(own, "POST", "/console/models/texts/try", data=form, headers=origin)
    assert page.status_code == 200, page.text
    assert "masked_1" in page.text


def test_a_truth_is_taken_for_a_number_and_refused_for_tensors(own: Server) -> None:
    for name, body in {"credit": CREDIT, "texts": {"input_ids": [1], "attention_mask": [1]}}.items():
        headers = {"X-Request-Id": f"order-{name}"}
        assert own.client.post(f"{own.url}/predictions/{name}", json=body, headers=headers).status_code == 200
        label = [{"request_id": f"order-{name}", "label": 40.0, "model": name}]
        taken = ask(own, "POST", "/feedback", json=label)
        assert taken.status_code == (200 if name == "credit" else 422), taken.text
    assert "nothing compares tensors with a truth" in taken.text


def test_it_is_not_retrained_and_says_why(own: Server) -> None:
    refused = ask(own, "POST", "/models/credit/retrain", json={})
    assert refused.status_code == 409
    assert "credit has no recipe" in refused.text


def test_another_version_is_promoted_and_rolled_back_without_a_failed_request(own: Server) -> None:
    registry = Registry(own.settings.model_store)
    question = Question("/predictions/credit", CREDIT, {"prediction": 37.0})
    with clients(own.url, question) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 50)
        assert ask(own, "POST", "/models/credit/promote", json={"version": "1.1"}).status_code == 200
        assert registry.champion("credit").number == "1.1"
        assert ask(own, "POST", "/models/credit/rollback").status_code == 200
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 50)
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples


def test_its_status_and_its_load_test_find_every_answer_right(own: Server, tmp_path: Path) -> None:
    env = environment(own.settings)
    assert "texts" in command("serving", "status", env=env)
    check_load_finds_every_answer_right(own, tmp_path)
