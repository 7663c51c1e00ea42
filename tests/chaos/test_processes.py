"""A process of the service is killed or stops answering, while clients ask that know the answers."""

import time
from collections.abc import Callable

import psutil
import pytest

from serving.readiness import ask_all
from serving.registry import Registry
from serving.supervision.supervisor import Supervisor
from tests.chaos.conftest import LINEAR, Stack
from tests.chaos.load import FAILED, REFUSED, RIGHT, WRONG, clients
from tests.conftest import Figures
from tests.support.waiting import wait_until

pytestmark = pytest.mark.loop  # some minutes: no part of `make test`
BACK = 5.0  # s: promised after a kill
TOLD = 3.0  # s: promised until readiness tells of a hung worker
UNHUNG = 15.0  # s: promised after a hang
SLACK = 10.0  # s that a busy machine may take beyond what is promised before a test calls it broken
PARTS = ("torchserve", "exporter", "monitor")


def seconds_until(condition: Callable[[], bool], limit: float) -> float:
    """Wait for a condition; returns how long it took."""
    started = time.monotonic()
    wait_until(condition, timeout=limit, poll=0.05)
    return time.monotonic() - started


def served(stack: Stack) -> bool:
    """Whether every champion answers its example."""
    return all(one.ready for one in ask_all(Registry(stack.settings.model_store), stack.settings.inference_url))


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_part_comes_back(stack: Stack, figures: Figures, part: str) -> None:
    process = stack.part(part)
    with clients(stack.settings.inference_url, LINEAR) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 100)
        process.kill()
        psutil.wait_procs([process], timeout=10)
        back = seconds_until(lambda: stack.answers(part), BACK + SLACK)
        ready = seconds_until(lambda: stack.ready() and served(stack), 60)
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 100)
    figures.took(f"{part}: back", back, BACK)
    figures(f"all models after {back + ready:.1f} s; {outcomes}")
    assert outcomes.counts[WRONG] == 0, outcomes.examples
    if part != "torchserve":
        assert outcomes.counts[REFUSED] + outcomes.counts[FAILED] == 0


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_hangs_is_ended_and_comes_back(stack: Stack, figures: Figures, part: str) -> None:
    process = stack.part(part)
    with clients(stack.settings.inference_url, LINEAR) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 100)
        process.suspend()
        back = seconds_until(lambda: not process.is_running() and stack.answers(part), UNHUNG + 2 * SLACK)
        ready = seconds_until(lambda: stack.ready() and served(stack), 60)
    figures.took(f"{part}: back", back, UNHUNG)
    figures(f"all models after {back + ready:.1f} s; {outcomes}")
    assert outcomes.counts[WRONG] == 0, outcomes.examples


def test_a_killed_worker_comes_back(stack: Stack, figures: Figures) -> None:
    with clients(stack.settings.inference_url, LINEAR) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 100)
        stack.worker("linear").kill()
        wait_until(lambda: outcomes.counts[REFUSED] + outcomes.counts[FAILED] > 0 or outcomes.longest_gap > 0.5)
        back = seconds_until(lambda: served(stack), BACK + SLACK)
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 100)
    figures.took("all models", back, BACK)
    figures(outcomes)
    assert outcomes.counts[WRONG] == 0, outcomes.examples


def test_a_hung_worker_is_not_ready_and_harms_no_other_model(stack: Stack, figures: Figures) -> None:
    worker = stack.worker("flights")
    with clients(stack.settings.inference_url, LINEAR) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 100)
        worker.suspend()
        try:
            told = seconds_until(lambda: not stack.ready(), 5 + SLACK)
            back = seconds_until(lambda: stack.ready() and served(stack), 120)
        finally:
            if worker.is_running():
                worker.resume()
    figures.took("not ready", told, TOLD)
    figures(f"all models after {told + back:.1f} s; the other model: {outcomes}")
    assert outcomes.counts[WRONG] == 0, outcomes.examples
    assert outcomes.counts[REFUSED] + outcomes.counts[FAILED] == 0


def test_what_a_killed_supervisor_left_answers_on_and_is_replaced_by_the_next_up(
    stack: Stack, figures: Figures
) -> None:
    killed = Supervisor(stack.settings).find()
    assert killed is not None
    with clients(stack.settings.inference_url, LINEAR) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 100)
        left = {part: stack.part(part) for part in PARTS}
        killed.kill()
        psutil.wait_procs([killed], timeout=10)
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 100)  # nobody misses it yet
        assert outcomes.counts[REFUSED] + outcomes.counts[FAILED] == 0
        started = time.monotonic()
        stack.up()
        figures(f"all models {time.monotonic() - started:.1f} s after `make up`; {outcomes}")
    assert outcomes.counts[WRONG] == 0, outcomes.examples
    supervisor = Supervisor(stack.settings).find()
    assert supervisor is not None
    children = {child.pid for child in supervisor.children()}
    assert not any(process.is_running() for process in left.values())
    assert {stack.part(part).pid for part in PARTS} < children


def test_down_answers_what_it_was_asked(stack: Stack, figures: Figures) -> None:
    with clients(stack.settings.inference_url, LINEAR) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 100)
        asked = time.monotonic()
        stack.down()
    lost = [sent for sent in outcomes.lost if sent < outcomes.refused_at]
    figures(f"{len(lost)} of what was asked before the first refusal lost; {outcomes}")
    assert outcomes.counts[WRONG] == 0, outcomes.examples
    assert outcomes.refused_at > asked
    assert lost == []


def test_up_again_fails_no_request(stack: Stack, figures: Figures) -> None:
    with clients(stack.settings.inference_url, LINEAR) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 100)
        stack.up()
    figures(outcomes)
    assert set(outcomes.counts) == {RIGHT}
