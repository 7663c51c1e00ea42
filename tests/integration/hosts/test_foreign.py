"""An archive of ``torch-model-archiver`` is served, watched, loaded and promoted on every host, by its own handler."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from handlers.message import JSON
from serving.registry import Registry
from tests.chaos.load import RIGHT, Question, clients
from tests.integration.conftest import Server, environment
from tests.integration.hosts.test_imported import ask, check_load_finds_every_answer_right, command
from tests.support.training import foreign as made
from tests.support.waiting import wait_until

NUMBERS = {"numbers": [1, 2.5]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of a class, a network behind TorchServe's base class, and an archive that nobody imported."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "numbers.json").write_text(json.dumps(NUMBERS))
    (folder / "x.json").write_text(json.dumps({"x": [1, 2]}))
    imports = [("legacy", made.adder(folder / "legacy.mar", 10), "numbers.json")] * 2
    imports.append(("doubler", made.doubler(folder / "doubler.mar"), "x.json"))
    for name, file, example in imports:
        options = ("--name", name, "--trust", "--example", folder / example, "--store", folder / "store")
        command("training", "import", file, *options)
    made.adder(folder / "store" / "stray.mar")
    return folder / "store"


def test_it_answers_as_its_handler_does_at_its_own_route(own: Server) -> None:
    url = f"{own.url}/predictions/legacy"
    response = own.client.post(url, json=NUMBERS)
    assert (response.status_code, response.json()) == (200, {"total": 13.5})
    assert own.client.post(f"{url}/1.0", json=NUMBERS).json() == {"total": 13.5}
    assert own.client.post(f"{own.url}/predictions/doubler", json={"x": [3]}).json() == [6.0]
    picture = own.client.post(url, json={"order": "picture"})
    assert (picture.content, picture.headers["content-type"]) == (b"\x89PNG", "image/png")
    assert picture.headers["x-made-by"] == "hand"
    assert own.client.post(url, json=NUMBERS | {"order": "status"}).status_code == 418
    text = own.client.post(url, content=b"abc", headers={"Content-Type": "text/plain"})
    assert (text.text, text.headers["content-type"]) == ("str of 3", "text/plain; charset=utf-8")
    assert own.client.post(url, json={"order": "headers"}, headers={"X-Mine": "yes"}).json()["mine"] == "yes"


def test_other_routes_say_that_it_has_only_its_own(own: Server) -> None:
    for path in ("/v1/models/legacy:predict", "/v2/models/legacy/infer"):
        response = own.client.post(f"{own.url}{path}", json={"instances": [1]})
        assert (response.status_code, response.json()["expected"]) == (404, "/predictions/legacy")
        assert "answers at its native route alone" in response.json()["error"]
    if own.settings.host == "direct":
        assert own.client.get(f"{own.url}/v2/models/legacy").json()["expected"] == "/predictions/legacy"
        assert own.client.get(f"{own.url}/v2/models/legacy/ready").json()["ready"] is True
        paths = own.client.get(f"{own.url}/openapi.json").json()["paths"]
        content = paths["/predictions/legacy"]["post"]["requestBody"]["content"]
        assert content == {"application/json": {"schema": {}, "example": NUMBERS}}
        assert "/v1/models/legacy:predict" not in paths


def test_a_crash_fails_its_request_alone(own: Server) -> None:
    url = f"{own.url}/predictions/legacy"
    for order in ("raise", "crash"):
        response = own.client.post(url, json={"order": order})
        assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
        assert own.client.post(url, json=NUMBERS).json() == {"total": 13.5}


def test_it_is_probed_counted_and_has_a_page_and_a_form(own: Server) -> None:
    wait_until(lambda: ask(own, "GET", "/readyz").status_code == 200)
    metrics = httpx.get(f"{own.settings.exporter_url}/metrics", timeout=30, trust_env=False).text
    assert 'model_requests_total{code="200",model="legacy",protocol="native",version="1.0"}' in metrics
    page = ask(own, "GET", "/console/models/legacy")
    assert page.status_code == 200
    assert "nobody knows its inputs and answers" in page.text
    tried = ask(own, "POST", "/console/models/legacy/try", data={"body": json.dumps(NUMBERS)},
                headers={"HX-Request": "true"})  # fmt: skip
    assert "13.5" in tried.text
    refused = ask(own, "POST", "/models/legacy/retrain", json={})
    assert (refused.status_code, "a handler from elsewhere" in refused.text) == (409, True)
    assert ask(own, "GET", "/models/legacy/drift").status_code == 409


def test_another_version_is_promoted_and_rolled_back_without_a_failed_request(own: Server) -> None:
    registry = Registry(own.settings.model_store)
    question = Question("/predictions/legacy", NUMBERS, {"total": 13.5})
    with clients(own.url, question, count=2) as outcomes:  # it is one process, which more of them would overload
        wait_until(lambda: outcomes.counts[RIGHT] > 50)
        assert ask(own, "POST", "/models/legacy/promote", json={"version": "1.1"}).status_code == 200
        assert registry.champion("legacy").number == "1.1"
        assert ask(own, "POST", "/models/legacy/rollback").status_code == 200
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 50)
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples


def test_a_request_whose_body_comes_after_a_promotion_is_answered(own: Server) -> None:
    content = json.dumps(NUMBERS).encode()

    def body() -> Iterator[bytes]:
        yield content[:1]
        assert ask(own, "POST", "/models/legacy/promote", json={"version": "1.1"}).status_code == 200
        yield content[1:]

    headers = {"Content-Type": JSON, "Content-Length": str(len(content))}
    answer = own.client.post(f"{own.url}/predictions/legacy", content=body(), headers=headers, timeout=60)
    assert ask(own, "POST", "/models/legacy/rollback").status_code == 200
    assert (answer.status_code, answer.json()) == (200, {"total": 13.5})


def test_its_status_tells_of_the_one_that_nobody_imported_and_its_load_test_finds_every_answer_right(
    own: Server, tmp_path: Path
) -> None:
    env = environment(own.settings)
    told = " ".join(command("serving", "status", env=env).split())
    assert "stray.mar is not served" in told
    assert json.loads(command("serving", "example", "legacy", env=env)) == NUMBERS
    check_load_finds_every_answer_right(own, tmp_path)
