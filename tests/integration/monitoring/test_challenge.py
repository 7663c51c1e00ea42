"""A second version of an imported model challenges the first, on real processes, by the command that a user types."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.registry import Registry
from serving.settings import ROOT
from serving.supervision.companion import monitor as companion
from tests.chaos.load import RIGHT, WRONG, Question, clients
from tests.integration.conftest import Server, environment, monitored
from tests.integration.hosts.test_imported import command
from tests.support.training import graphs
from tests.support.waiting import wait_until

ROWS = 300
RIGHT_RATES, STALE, WORSE = "1.0, 2.0, 3.0", "1.0, 2.0, 4.0", "1.0, 9.0, 9.0"
VARIABLES = {
    "MARLOOP_CAPTURE_ROWS_PER_SECOND": "100000",
    "MARLOOP_LIVE_INTERVAL": "1",
    "MARLOOP_JUDGE_LATENCY": "10",  # not what is looked at here, on a busy machine
    "MARLOOP_JUDGE_AGREEMENT": "0.9",
}
CREDIT = {"age": 30, "income": 2, "debt": 1}


def bring(folder: Path, name: str, *versions: str) -> None:
    """Import versions of a model by their rates, as files that nothing was measured on."""
    for rates in versions:
        file = graphs.save(graphs.REGRESSION.replace(RIGHT_RATES, rates), folder / "rate.onnx")
        command("training", "import", file, "--name", name, "--data", folder / "rows.csv",
                "--store", folder / "store")  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The direct host with a stale model, versions that are better and worse, and a model without labels."""
    folder = tmp_path_factory.mktemp("challenge")
    (folder / "rows.csv").write_text("age,income,debt\n" + "".join(f"{i % 60},{i % 7},{i % 5}\n" for i in range(ROWS)))
    bring(folder, "credit", STALE, WORSE, RIGHT_RATES)
    bring(folder, "loans", RIGHT_RATES, RIGHT_RATES, WORSE)
    with monitored(folder / "store", folder / "runs", VARIABLES, "direct") as server:
        yield server


def ask(server: Server, method: str, path: str, **request: Any) -> Any:
    response = httpx.request(method, f"{server.settings.monitor_url}{path}", timeout=60, trust_env=False, **request)
    assert response.status_code < 300, response.text
    return response.json()


def row(i: int) -> dict[str, int]:
    return {"age": i % 60, "income": i % 7, "debt": i % 5}


def live(server: Server, model: str) -> None:
    """Send requests, one an id, until the monitor has them."""
    for i in range(ROWS):
        headers = {"X-Request-Id": f"{model}-{i}"}
        response = server.client.post(f"{server.url}/predictions/{model}", json=row(i), headers=headers)
        assert response.status_code == 200, response.text
    wait_until(lambda: counted(server, model)["predictions"] >= ROWS)


def label(server: Server, model: str) -> None:
    """Send the truth of these requests, with a little noise that is always the same."""
    truths = ((i, row(i)) for i in range(ROWS))
    labels = [
        {"request_id": f"{model}-{i}", "label": v["age"] + 2 * v["income"] + 3 * v["debt"] + (i % 3 - 1) / 10}
        for i, v in truths
    ]
    ask(server, "POST", "/feedback", json=labels)
    wait_until(lambda: counted(server, model)["labelled"] >= ROWS)


def counted(server: Server, model: str) -> Any:
    return next(summary for summary in ask(server, "GET", "/models") if summary["name"] == model)


def challenge(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a user types, and what it prints."""
    line = [sys.executable, "-m", "marloop", "challenge", *arguments]
    return subprocess.run(line, cwd=ROOT, env=environment(server.settings), capture_output=True, text=True, timeout=120)


def champion(server: Server, model: str) -> str:
    return Registry(server.settings.model_store).champion(model).number


def state(server: Server, model: str, version: str) -> str:
    return Registry(server.settings.model_store).models()[model][version].state


def test_with_nothing_to_compare_it_is_refused_with_the_way_out(own: Server) -> None:
    done = challenge(own, "credit", "1.2")
    assert done.returncode == 1
    assert "error: credit has no labelled rows, and only 0 captured requests of 20 can be sent again" in done.stdout
    assert "`marloop promote credit 1.2` promotes it unjudged" in done.stdout


def test_a_worse_version_is_refused_on_labelled_rows(own: Server) -> None:
    live(own, "credit")
    label(own, "credit")
    done = challenge(own, "credit", "1.1", "--wait")
    assert done.returncode == 1, done.stdout
    assert "refused: rmse" in done.stdout
    assert (champion(own, "credit"), state(own, "credit", "1.1")) == ("1.0", "refused")


def test_a_better_version_is_promoted_and_watched_without_a_failed_request(own: Server) -> None:
    stale = {"prediction": 38.0}
    with clients(own.url, Question("/predictions/credit", CREDIT, stale)) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 50)
        done = challenge(own, "credit", "1.2", "--wait")
        count = outcomes.counts[WRONG]
        wait_until(lambda: outcomes.counts[WRONG] > count + 50)  # which the new version answers otherwise
    assert done.returncode == 0, done.stdout + done.stderr
    assert "promoted: rmse 0.0" in done.stdout
    assert set(outcomes.counts) <= {RIGHT, WRONG}, str(outcomes)
    assert all(response == {"prediction": 37.0} for response in outcomes.examples), outcomes.examples
    assert champion(own, "credit") == "1.2"
    job = ask(own, "GET", "/jobs", params={"model": "credit", "state": "promoted"})[0]
    assert job["result"]["watch"]["former"] == "1.0"
    assert job["result"]["watch"]["open"]
    page = httpx.get(f"{own.settings.monitor_url}/console/jobs/{job['id']}", trust_env=False).text
    assert "Challenge by credit 1.2" in page


def test_without_labels_a_version_that_answers_alike_is_promoted_and_another_refused(own: Server) -> None:
    live(own, "loans")
    refused = challenge(own, "loans", "1.2", "--wait")
    assert refused.returncode == 1
    assert "of the answers agree, where 90.0% are needed" in refused.stdout
    assert champion(own, "loans") == "1.0"
    done = challenge(own, "loans", "1.1", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100.0% of the answers agree" in done.stdout
    assert champion(own, "loans") == "1.1"


def test_a_monitor_that_does_not_run_is_said(own: Server) -> None:
    companion(own.settings).stop(own.settings)
    done = challenge(own, "credit", "1.0")
    assert done.returncode == 1
    assert "start it with `marloop up`" in done.stdout
