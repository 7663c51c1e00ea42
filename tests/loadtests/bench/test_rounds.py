import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import onnx
import pytest

from handlers.contract import Example, ModelContract, TensorSpec
from handlers.contract.model_card import Evaluation, Lineage, Reference
from loadtests import wrk
from loadtests.bench import environments
from loadtests.bench.rounds import limited
from loadtests.bench.tensors.contenders import Contender
from loadtests.bench.tensors.measurement import AnswerError, Bench, check_answers
from loadtests.bench.tensors.results import Plan, Results
from loadtests.bench.tensors.workloads import (
    BODIES,
    JSON,
    Exchange,
    draw_rows,
    native,
    png,
    read_prediction,
    v2_binary,
    v2_json,
)
from serving.ports import free_ports
from serving.processes import running
from tests.support.loadtests.peers import command

X = TensorSpec("x", "FP32", range=(0, 100))
Y = TensorSpec("y", "FP32")
EXAMPLE = Example({"x": 1}, {"prediction": 2})
DOUBLED = ModelContract("flights", "1.0", "regression", (X,), (Y,), (), EXAMPLE, Reference(), Evaluation(), Lineage())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a model that doubles."""
    folder = tmp_path / "model"
    folder.mkdir()
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "x"], ["y"])],
        "doubled",
        [onnx.helper.make_tensor_value_info("x", float32, ["batch"])],
        [onnx.helper.make_tensor_value_info("y", float32, ["batch"])],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    (folder / "contract.json").write_bytes(DOUBLED.to_json())
    return folder


def contender(name: str, factor: float) -> Contender:
    def run(port: int, model: Path, own: Path) -> tuple[list[str], dict[str, str]]:
        return command(port, factor), {}

    def exchange(contract: ModelContract, rows: Any) -> Exchange:
        return Exchange("/predict", JSON, [native(row) for row in rows], read_prediction)

    return Contender(name, name, {"flights": exchange}, run)


def empty(plan: Plan) -> Results:
    return Results(started="2026-11-24T12:00:00+00:00", plan=plan, machine={}, titles={})


def test_two_servers_are_measured_in_turn_and_one_with_other_answers_is_left_out_with_the_reason(model: Path) -> None:
    try:
        wrk.find()
    except wrk.WrkError as error:
        pytest.skip(str(error))
    results = empty(Plan(rounds=1, seconds=1, warm_up=1, clients=4, many=8))
    saved: list[int] = []
    bench = Bench(results, {"flights": model}, lambda text: None, lambda: saved.append(len(results.samples)))
    bench.run([contender("first", 2), contender("wrong", 3), contender("second", 2)])
    measured = [(sample.contender, sample.workload, sample.clients) for sample in results.samples]
    assert measured == [(name, "flights", clients) for name in ("first", "second") for clients in (4, 1, 8)]
    assert all(sample.load.per_second > 10 and sample.load.errors == 0 for sample in results.samples)
    assert [standing.bad_input for standing in results.standings] == [400, 400]
    assert results.standings[0].memory > 1
    assert list(results.absent) == ["wrong"]
    assert "was answered" in results.absent["wrong"]
    assert saved == [3, 3, 6]


def test_a_server_that_ends_at_once_is_left_out_with_the_end_of_its_log(model: Path) -> None:
    def run(port: int, model: Path, own: Path) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-c", "raise SystemExit('no such port')"], {}

    results = empty(Plan(rounds=2))
    one = contender("broken", 2)
    bench = Bench(results, {"flights": model}, lambda text: None, lambda: None)
    bench.run([Contender(one.name, one.what, one.exchanges, run)])
    assert "it ended" in results.absent["broken"]
    assert "no such port" in results.absent["broken"]


def test_a_peer_that_cannot_be_installed_is_noted_and_the_others_go_on(model: Path) -> None:
    def prepare(say: Any) -> None:
        raise environments.InstallError("no matching distribution")

    one = contender("missing", 2)
    results = empty(Plan(rounds=1))
    bench = Bench(results, {"flights": model}, lambda text: None, lambda: None)
    bench.run([Contender(one.name, one.what, one.exchanges, one.command, prepare)])
    assert results.absent == {"missing": "cannot be installed: no matching distribution"}


def test_answers_within_the_tolerance_are_the_same_and_others_are_not(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    exchange = Exchange("/predict", JSON, [b'{"x": 1}', b'{"x": 4}'], read_prediction)
    with running(command(port, 2), environments.quiet(), tmp_path / "log") as server:
        server.wait_until(lambda: _same(url, exchange, [2.0, 8.0]))
        check_answers(url, exchange, [2.0000001, 7.9999])
        with pytest.raises(AnswerError, match="8.0, not 9"):
            check_answers(url, exchange, [2.0, 9.0])


def test_what_hangs_is_given_up() -> None:
    with pytest.raises(TimeoutError, match="not done after 0.2 s"), limited(0.2):
        threading.Event().wait(60)


def test_requests_differ_and_are_valid_in_every_form() -> None:
    rows = draw_rows(DOUBLED, _generator())
    assert len({native(row) for row in rows}) > BODIES / 2
    assert msgspec.json.decode(v2_json(DOUBLED, rows[0]))["inputs"][0]["shape"] == [1]
    picture = ModelContract(
        "fashion",
        "1.0",
        "classification",
        (TensorSpec("image", "UINT8", (-1, 28, 28)),),
        (),
        ("a", "b"),
        Example({"inputs": [[i + j for j in range(28)] for i in range(28)]}, {}),
        Reference(),
        Evaluation(),
        Lineage(),
    )
    pictures = draw_rows(picture, _generator())
    assert len({png(row) for row in pictures}) == BODIES
    body, headers = v2_binary(picture, pictures[0])
    length = int(headers["Inference-Header-Content-Length"])
    assert msgspec.json.decode(body[:length])["inputs"][0]["parameters"] == {"binary_data_size": 784}
    assert list(body[length:]) == [value for line in pictures[0]["inputs"] for value in line]


def test_an_environment_is_made_once_and_again_only_when_its_requirements_change(tmp_path: Path) -> None:
    (tmp_path / "peers" / "one").mkdir(parents=True)
    requirements = tmp_path / "peers" / "one" / "requirements.txt"
    requirements.write_text("# nothing\n")
    said: list[str] = []
    python = environments.ensure("one", tmp_path / "made", said.append, tmp_path / "peers")
    assert subprocess.run([python, "-c", ""]).returncode == 0
    environments.ensure("one", tmp_path / "made", said.append, tmp_path / "peers")
    assert len(said) == 1
    requirements.write_text("./no-such-folder\n")
    with pytest.raises(environments.InstallError, match="no-such-folder"):
        environments.ensure("one", tmp_path / "made", said.append, tmp_path / "peers")


def _generator() -> np.random.Generator:
    return np.random.default_rng(1)


def _same(url: str, exchange: Exchange, expected: list[Any]) -> bool:
    try:
        check_answers(url, exchange, expected)
    except (httpx.HTTPError, AnswerError):
        return False
    return True
