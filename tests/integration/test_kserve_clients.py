"""Unmodified clients of KServe's protocols understand every answer of each host, errors included."""

from typing import Any

import pytest

from tests.clients import environments
from tests.integration.conftest import Server

Report = dict[str, Any]
RIGHT = pytest.approx([2, 12], abs=0.05)


@pytest.fixture(scope="module")
def server(either: Server) -> Server:
    """Each host."""
    return either


def host(server: Server) -> str:
    return server.url.removeprefix("http://")


@pytest.fixture(scope="module")
def triton(server: Server) -> Any:
    version = server.contract("linear").version
    return environments.run("mlserver", "triton.py", host(server), "linear", version)


@pytest.fixture(scope="module")
def kserve(server: Server) -> Any:
    version = server.contract("linear").version
    return environments.run("kserve", "sdk.py", server.url, "linear", version)


def test_tritons_client_is_answered_whatever_it_sends(triton: Report) -> None:
    sent = ("binary", "json", "column", "column in json", "double", "integer", "options", "output in json")
    assert [triton[name] for name in (*sent, "behind a version")] == [RIGHT] * 9


def test_tritons_client_prints_what_was_wrong(triton: Report) -> None:
    for name, words in {
        "unknown output": "unknown output 'z' at $.outputs[0].name; expected: one of y",
        "classes of a number": "y has no classes at $.outputs[0].parameters.classification",
        "wrong shape": "x has shape [1, 2] at $.inputs[0].shape; expected: shape [-1]",
        "wrong datatype": "x is BOOL at $.inputs[0].datatype; expected: FP32",
    }.items():
        assert triton[name]["status"] == "400"
        assert words in triton[name]["message"]
        assert words in triton[name]["text"]


def test_tritons_client_learns_of_health_and_metadata_behind_a_version(server: Server, triton: Report) -> None:
    check_described(server, triton["whole"])
    number = server.contract("linear").version
    assert triton["whole"]["index"] == [{"name": "linear", "version": number, "state": "READY", "reason": ""}]


def test_tritons_client_learns_of_all_at_the_plain_base_url(server: Server, triton: Report) -> None:
    if server.settings.host == "torchserve":
        pytest.skip("TorchServe has health and metadata behind a version alone: docs/operations.md")
    plain, number = triton["plain"], server.contract("linear").version
    check_described(server, plain)
    assert plain["version"] == RIGHT
    linear = {"name": "linear", "version": number, "state": "READY", "reason": ""}
    assert linear in plain["index"]
    assert {entry["name"] for entry in plain["index"]} == {"linear", "flights", "fashion"}


def check_described(server: Server, told: Report) -> None:
    assert [told[name] for name in ("live", "ready", "model ready", "version ready")] == [True] * 4
    assert told["another ready"] is False
    assert told["server"].keys() == {"name", "version", "extensions"}
    assert told["metadata"] == {
        "name": "linear",
        "versions": [server.contract("linear").version],
        "platform": "marloop",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
    }


def test_tritons_client_gets_classes(server: Server, triton: Report) -> None:
    (texts,) = triton["classes"]
    assert len(texts) == 3
    labels = server.contract("fashion").labels
    found = [text.split(":") for text in texts]
    assert [labels[int(index)] for _, index, _ in found] == [label for *_, label in found]
    assert [float(one) for one, *_ in found] == sorted((float(one) for one, *_ in found), reverse=True)


def test_kserves_client_is_answered_whatever_it_sends(kserve: Report) -> None:
    sent = [f"{datatype} {form}" for datatype in ("FP32", "FP64", "INT64") for form in ("json", "binary")]
    assert [kserve[name] for name in (*sent, "behind a version")] == [[RIGHT]] * 7
    assert kserve["v1"] == kserve["v1 behind a version"] == {"predictions": [pytest.approx(12, abs=0.05)]}


def test_kserves_client_prints_what_was_wrong(kserve: Report) -> None:
    assert kserve["another model"].startswith("this is not the model 'another' at $.model_name; expected: linear")
    assert kserve["wrong shape"].startswith("x has shape [1, 2] at $.inputs[0].shape; expected: shape [-1]")
    assert kserve["v1 wrong"].startswith("Expected `float`, got `str` at $.instances[0].x; expected: number")


def test_kserves_client_learns_of_health_behind_a_version(kserve: Report) -> None:
    assert [kserve[name] for name in ("live", "ready", "model ready", "v1 model ready")] == [True] * 4
    assert kserve["another ready"] is False


def test_kserves_client_learns_of_health_at_the_plain_base_url(server: Server, kserve: Report) -> None:
    if server.settings.host == "torchserve":
        pytest.skip("TorchServe has health behind a version alone: docs/operations.md")
    assert kserve["plain"] == [True] * 4


def test_mlservers_codecs_write_what_is_answered_and_read_the_answer(server: Server) -> None:
    report = environments.run("mlserver", "tables.py", server.url)
    row = {"distance": 1400, "hour": 8, "carrier": "UA", "origin": "EWR", "dest": "IAH"}
    alone = server.client.post(f"{server.url}/predictions/flights", json=row).json()["prediction"]
    for null in (False, True):
        assert report[f"table {null}"][0] == pytest.approx(alone, rel=1e-6)
        assert report[f"array {null}"] == RIGHT
    assert "unknown carrier 'ua' at $.inputs[2].data[0]" in report["unknown"]
    assert "closest: UA" in report["unknown"]
