"""Files that no converter knows are served as they are, on both hosts, from a command to an answer."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pandas
import psutil
import pytest
import torch

from tests.integration.conftest import Server, monitored
from tests.integration.hosts.test_imported import command
from tests.support.training import unconverted
from tests.support.training.unconverted import Halved, Waves
from tests.support.waiting import wait_until

skops = pytest.importorskip("skops.io", reason="skops is not installed: pip install -e '.[import]'")
ROW = [0.5, 3.0, 1.0, 0.25]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("as it is")
    example, row = folder / "x.json", folder / "row.json"
    example.write_bytes(msgspec.json.encode({"x": ROW}))
    row.write_bytes(msgspec.json.encode(unconverted.ROW))
    skops.dump(unconverted.kernel_ridge(), folder / "ridge.skops")
    script = unconverted.save_script(folder / "halved.pt")
    program = unconverted.save_program(folder / "waves.pt2")
    for name, file, options in (
        ("script", script, ("--example", example)),
        ("program", program, ("--example", example, "--labels", "a,b,c")),
        ("estimator", folder / "ridge.skops", ("--example", row, "--trust")),
    ):
        told = command("training", "import", file, "--name", name, *options, "--store", folder / "store")
        assert "it does not convert to ONNX" in told
        assert "as it is" in told
    return folder / "store"


@pytest.fixture(scope="module", params=["torchserve", "direct"])
def own(request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with monitored(store, tmp_path_factory.mktemp("hosts") / "runs", {}, request.param) as server:
        yield server


def test_it_answers_as_its_own_framework(own: Server) -> None:
    def ask(name: str, body: Any, **headers: str) -> Any:
        response = own.client.post(f"{own.url}/predictions/{name}", json=body, headers=headers)
        assert response.status_code == 200, response.text
        return response.json()["prediction"]

    with torch.inference_mode():
        assert ask("script", {"inputs": [9, 1, 2, 0.5]}) == pytest.approx(
            float(Halved()(torch.tensor([[9, 1, 2, 0.5]]))), abs=1e-4
        )
        top = ask("program", {"inputs": ROW}, **{"X-Top-K": "3"})["top_k"]
        shares = {each["label"]: each["probability"] for each in top}
        expected = Waves()(torch.tensor([ROW])).softmax(1)[0].tolist()
    assert [shares[label] for label in "abc"] == pytest.approx(expected, abs=1e-4)
    asked = {"age": 41, "yearly_income": 51.25, "job": "clerk"}
    rows = pandas.DataFrame([list(asked.values())], columns=list(unconverted.ROW))
    assert ask("estimator", asked) == pytest.approx(float(unconverted.kernel_ridge().predict(rows)[0]), abs=1e-3)


def test_a_killed_process_costs_the_request_under_way_alone(own: Server) -> None:
    def ask(value: float) -> Any:
        return own.client.post(f"{own.url}/predictions/script", json={"inputs": [value, 1, 2, 3]}, timeout=120)

    right = ask(0.5).json()
    killed: list[psutil.Process] = []

    def refused() -> bool:
        """Kill while a request is under way, which it mostly is after a second."""
        processes = children_of(own)
        assert processes
        for process in processes:
            process.suspend()
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(ask, 0.7)
            time.sleep(1)
            for process in processes:
                process.kill()
            response = under_way.result(120)
        killed.extend(processes)
        if response.status_code == 200:  # it came after the kill
            return False
        assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
        return True

    wait_until(refused)
    answer = ask(0.5)
    assert (answer.status_code, answer.json()) == (200, right)
    assert not any(process.is_running() for process in killed)  # nor is one a zombie


def children_of(own: Server) -> list[psutil.Process]:
    """The processes that run models of this server."""
    workers = [psutil.Process(pid) for pid in own.worker_pids()]
    children = {child for worker in workers for child in worker.children()}
    return [child for child in children if "handlers.engine.child" in " ".join(child.cmdline())]
