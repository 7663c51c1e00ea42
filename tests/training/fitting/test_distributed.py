"""Several processes fit one network as one process does, and end when one of them ends."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from serving.ports import free_ports
from serving.registry import Registry
from serving.settings import ROOT
from tests.training.fitting.commands import Command, command
from tests.training.fitting.joint import PATIENCE, fit_all
from training.fitting.distributed import ALONE, Processes, ProcessLostError, joined
from training.fitting.rows import Rows
from training.recipes.linear import Linear

ALIKE = 1e-4  # largest difference of a weight: float32 sums of two shares, over hundreds of steps
# As linear, and takes its time: a test must find it at work.
SLOW = """
import time
from dataclasses import replace

from training.recipes.linear import Linear


class Slow(Linear):
    name = "slow"
    presets = {"default": replace(Linear.presets["default"], epochs=60)}

    def augment(self, inputs, hp):
        time.sleep(0.05)
        return inputs


recipe = Slow()
"""


def variables(rank: int, count: int = 2) -> dict[str, str]:
    return {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)}


def test_a_process_is_alone_unless_the_environment_says_otherwise() -> None:
    assert Processes.from_environment({}) == ALONE
    assert Processes.from_environment({"WORLD_SIZE": "4"}) == ALONE
    assert Processes.from_environment(variables(1, 4)) == Processes(1, 4, 1, 4)
    assert Processes.from_environment({"RANK": "1", "WORLD_SIZE": "2"}) == Processes(1, 2, 0, 1)
    with joined({}) as processes:
        assert processes == ALONE


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"RANK": "two"}, "RANK is 'two'; it must be a whole number"),
        ({"RANK": "-1"}, "RANK is '-1'"),
        ({"RANK": "4"}, "RANK 4 of WORLD_SIZE 4.*counted from 0"),
        ({"LOCAL_RANK": "4"}, "LOCAL_RANK 4 of LOCAL_WORLD_SIZE 4"),
        ({"WORLD_SIZE": "6"}, "start as many processes on each machine"),
        ({"LOCAL_WORLD_SIZE": ""}, "LOCAL_WORLD_SIZE is ''"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(changes: Mapping[str, str], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Processes.from_environment({**variables(1, 4), **changes})


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [3], [4, 1]])
def test_the_shares_of_a_batch_have_its_mean(count: int, rows: list[int]) -> None:
    recipe = Linear()
    data = recipe.load(recipe.preset(None), Path())
    shares = [Rows(data.train, Processes(rank, count))[rows] for rank in range(count)]
    whole = Rows(data.train)[rows]
    means = [share.mean(share.target**2) for share in shares]
    assert torch.stack(means).mean().item() == pytest.approx(whole.mean(whole.target**2).item())
    assert all(len(share.target) > 0 and share.rows == len(rows) for share in shares)


def test_two_processes_fit_what_one_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = fit_all(tmp_path / "alone")
    (port,) = free_ports(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in (address | variables(0)).items():
        monkeypatch.setenv(name, value)
    program = [sys.executable, "-m", "tests.training.fitting.joint", str(tmp_path)]
    second = subprocess.Popen(program, cwd=ROOT, env=os.environ | variables(1))
    try:
        with joined(os.environ, PATIENCE) as processes:
            together = fit_all(tmp_path, processes)
        assert second.wait(60) == 0
    finally:
        second.kill()
        second.wait()
    others = torch.load(tmp_path / "second.pt")
    for name, trained in together.items():
        for key, values in trained.module.state_dict().items():
            torch.testing.assert_close(values, alone[name].module.state_dict()[key], atol=ALIKE, rtol=ALIKE)
            torch.testing.assert_close(values, others[name][key], atol=0, rtol=0)
        assert len(trained.history) == len(alone[name].history)
        for entry, expected in zip(trained.history, alone[name].history, strict=True):
            assert entry == pytest.approx(expected, rel=1e-3, abs=ALIKE)
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "slow.py").write_text(SLOW)
    (port,) = free_ports(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    places = {"MODEL_STORE": tmp_path / "store", "RUNS": tmp_path / "runs", "RECIPES": recipes}
    return {**os.environ, **address, **{f"MARLOOP_{name}": str(place) for name, place in places.items()}}


@pytest.fixture
def train(environment: dict[str, str]) -> Iterator[Callable[..., Command]]:
    """Starts trainings that are ended with the test: with options of Python, and more variables."""
    with ExitStack() as stack:

        def start(*launch: str, **more: str) -> Command:
            return stack.enter_context(command("train", "slow", launch=launch, environment=environment | more))

        yield start


def test_when_one_is_killed_the_other_ends_with_the_reason_and_torchrun_goes_on(
    train: Callable[..., Command], tmp_path: Path
) -> None:
    first, second = (train(**variables(rank)) for rank in (0, 1))
    first.read_until("epoch 6/60 ")
    second.process.kill()
    assert first.end() == 1, first.output
    assert second.end() == -signal.SIGKILL
    said = " ".join(first.output.split())
    assert "error: process 0 of 2 has lost another one" in said
    assert "The same command goes on from the last checkpoint" in said
    assert "Traceback" not in first.output
    (checkpoint,) = (tmp_path / "runs").rglob("*.ckpt")
    assert not (tmp_path / "store").exists()

    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    again = train(*torchrun)
    assert again.end() == 0, again.output
    assert again.output.count(f"going on from {checkpoint}") == 1
    assert "by 2 processes" in again.output
    epochs = [int(number) for number in re.findall(r"^epoch (\d+)/60 ", again.output, re.MULTILINE)]
    assert epochs == list(range(epochs[0], 61, 3))  # printed by one process
    assert epochs[0] >= 6
    assert list(Registry(tmp_path / "store").models()["slow"]) == ["1.0"]
    assert not checkpoint.exists()


def test_a_process_that_nobody_joins_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **variables(0)}.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(ProcessLostError, match="process 0 of 2 has lost another one"),
        joined(os.environ, timedelta(seconds=1)),
    ):
        pytest.fail("it must not begin")
