"""The closed loop of a language model on real processes: thumbs and better answers become a version that is served."""

import hashlib
import importlib.util
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from serving.registry import Registry
from tests.integration.conftest import Server, monitored
from tests.support.training import tiny as making
from tests.support.training.tiny import EXPECTED, SENTENCE
from tests.support.waiting import wait_until
from training.__main__ import app
from training.language.engines import MODULES

pytestmark = pytest.mark.loop

NEW, THUMBS = 40, 10
ENVIRONMENT = {
    "MARLOOP_CAPTURE_CONVERSATIONS": "on",
    "MARLOOP_CONVERSATIONS_NEW": str(NEW),
    "MARLOOP_CONVERSATIONS_HOLDOUT": "0.4",
    "MARLOOP_CONVERSATIONS_THUMBS": str(THUMBS),
    "MARLOOP_CONVERSATIONS_THUMBS_APPROVE": "on",
    "MARLOOP_LIVE_INTERVAL": "1",
    "MARLOOP_PROBE_INTERVAL": "0.5",
}
BETTER = "In the wood, a.b@c.example."
KEPT = "In the wood, [e-mail]."
RECIPE = """\
from pathlib import Path

from training.language import pipeline
from training.language.recipe import Expected, LanguageHyperparameters, LanguageRecipe, LanguageServing, Weights

pipeline.PASSAGE = Path({passage!r})
recipe = LanguageRecipe(
    "talk",
    "a tiny model",
    Weights("tiny==1.0", "tiny.whl", {sha256!r}, "tiny/weights.gguf"),
    Expected({continuations!r}, 1000.0, {question!r}, {answer!r}, {conversation!r}),
    {{"default": LanguageHyperparameters(epochs=8, lr=1e-2)}},
    LanguageServing(2, 256),
)
"""


def write_recipe(folder: Path) -> dict[str, str]:
    """Write a recipe of a tiny model beside its weights; return the variables that name both."""
    for name in ("recipes", "cache"):
        (folder / name).mkdir()
    tiny = making.load(making.write(folder / "tiny.gguf"))
    with zipfile.ZipFile(folder / "cache" / "tiny.whl", "w") as wheel:
        wheel.write(making.teach(tiny, folder / "taught.gguf"), "tiny/weights.gguf")
    (folder / "passage.txt").write_text(SENTENCE)
    source = RECIPE.format(
        passage=str(folder / "passage.txt"),
        sha256=hashlib.sha256((folder / "cache" / "tiny.whl").read_bytes()).hexdigest(),
        continuations=EXPECTED.continuations,
        question=EXPECTED.question,
        answer=EXPECTED.answer,
        conversation=EXPECTED.conversation,
    )
    (folder / "recipes" / "talk.py").write_text(source)
    return {"MARLOOP_RECIPES": str(folder / "recipes"), "MARLOOP_CACHE": str(folder / "cache")}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The direct host with a tiny language model, and its monitor."""
    pytest.importorskip("gguf", reason="gguf is not installed: pip install -e '.[chat]'")
    if not any(map(importlib.util.find_spec, MODULES.values())):
        pytest.skip("no engine of language models is installed")
    folder = tmp_path_factory.mktemp("conversations")
    variables = write_recipe(folder)
    trained = CliRunner().invoke(app, ["train", "talk", f"--store={folder / 'store'}"], env=variables)
    assert trained.exit_code == 0, trained.output
    with monitored(folder / "store", folder / "runs", ENVIRONMENT | variables, host="direct") as server:
        yield server


def monitor(server: Server, method: str, path: str, **body: Any) -> Any:
    """What the monitor answers."""
    response = httpx.request(method, f"{server.settings.monitor_url}{path}", timeout=60, **body)
    assert response.status_code < 300, response.text
    return response.json()


def say(server: Server, first: int, count: int, label: Any) -> list[str]:
    """Ask questions with consent, and tell the label of each answer; return the answers once all are joined."""
    known = labelled(server)
    texts = []
    for number in range(first, first + count):
        body = {"model": "talk", "store": True, "max_tokens": 30, "temperature": 0}
        body["messages"] = [{"role": "user", "content": f"Where {number}?"}]
        answer = server.client.post(f"{server.url}/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        texts.append(answer.json()["choices"][0]["message"]["content"])
        monitor(server, "POST", "/feedback", json={"request_id": answer.json()["id"], "label": label})
    wait_until(lambda: labelled(server) == known + count)
    return texts


def labelled(server: Server) -> int:
    return sum(one["labelled"] for one in monitor(server, "GET", "/models"))


def jobs(server: Server, *states: str) -> list[Any]:
    return [job for job in monitor(server, "GET", "/jobs") if job["state"] in states]


def champion(server: Server) -> str:
    return Registry(server.settings.model_store).champion("talk").number


def test_better_answers_are_learned_promoted_and_served(own: Server) -> None:
    assert "wood" not in say(own, 0, 1, "down")[0]
    say(own, 1, NEW + 20, {"thumb": "up", "answer": BETTER})
    wait_until(lambda: bool(jobs(own, "promoted", "refused", "failed")), timeout=240, poll=0.5)
    (job,) = monitor(own, "GET", "/jobs")
    log = httpx.get(f"{own.settings.monitor_url}/jobs/{job['id']}/log").text
    assert (job["state"], job["trigger"]) == ("promoted", "approval"), (job, log)
    assert "likelier" in job["result"]["verdict"]["reason"]
    assert champion(own) == "1.1"
    wait_until(lambda: "wood" in say(own, 900, 1, "up")[0], timeout=30)
    assert KEPT[:12] in say(own, 901, 1, "up")[0]


def test_thumbs_that_are_worse_bring_the_former_version_back(own: Server) -> None:
    say(own, 2000, 3 * THUMBS, "down")
    wait_until(lambda: bool(jobs(own, "rolled_back")), timeout=60, poll=0.5)
    assert champion(own) == "1.0"
    (job,) = jobs(own, "rolled_back")
    assert "thumbs of 1.1 are up" in job["result"]["watch"]["reason"]
