"""A child process: its messages, and its ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from handlers.engine.child import Child
from handlers.engine.isolation import ChildError, ChildFault
from handlers.engine.messages import decode, encode
from serving.settings import ROOT
from tests.support.waiting import wait_until

PATIENCE = 60.0
HERE = "tests.handlers.engine.test_child"


def answering(factor: int = 1) -> Callable[[Any], Any]:
    """What runs in the child: it does what a message says."""

    def run(message: Any) -> Any:
        match message:
            case {"sleep": seconds}:
                time.sleep(seconds)
            case {"exit": code}:
                os._exit(code)
            case {"environment": name}:
                return os.environ.get(name)
            case {"raise": words}:
                raise LookupError(words)
            case {"double": array}:
                return {"array": array * 2 * factor}
            case "unsendable":
                return {"x": object()}
        return message

    return run


def failing(words: str) -> None:
    raise ValueError(words)


def ending(code: int) -> None:
    os._exit(code)


def ending_once(path: str) -> Callable[[Any], Any]:
    if Path(path).exists():
        raise RuntimeError("it was there before")
    Path(path).touch()
    return lambda _: os._exit(3)


@pytest.fixture(scope="module")
def shared() -> Iterator[Child]:
    child = Child(f"{HERE}:answering", {"factor": 3}, PATIENCE)
    yield child
    child.close()


@pytest.fixture
def child(shared: Child) -> Child:
    """One for most tests: whatever they do to it, it starts again."""
    assert shared.ask("ready", PATIENCE) == "ready"
    return shared


@pytest.mark.parametrize("message", [None, True, 7, 1.5, "ä", b"\0", [1, [2]], {"a": {"b": None}}])
def test_a_message_comes_back_as_it_was(message: Any) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2],
        np.zeros((0, 4), np.uint8),
        np.array(2.5),
        np.array([["a", "ü"], [None, ""]], object),
        np.array(["long", "s"]),
        np.array([True, False]),
        np.array([1], np.float16),
    ],
)
def test_an_array_comes_back_as_it_was_and_can_be_written_to(array: Any) -> None:
    again = decode(encode({"x": [array]}))["x"][0]
    assert (again.dtype, again.shape, again.tolist()) == (array.dtype, array.shape, array.tolist())
    assert again.flags.writeable


def test_what_no_message_holds_is_refused_before_it_is_sent(child: Child) -> None:
    with pytest.raises(TypeError, match="cannot hold a object"):
        child.ask({"x": object()}, PATIENCE)
    assert child.ask("next", PATIENCE) == "next"


def test_it_runs_a_function_in_another_process_with_its_arguments(child: Child) -> None:
    answer = child.ask({"double": np.array([1.0, 2.0])}, PATIENCE)
    assert answer["array"].tolist() == [6.0, 12.0]
    assert child.pid != os.getpid()


def test_an_answer_of_many_megabytes_arrives(child: Child) -> None:
    array = np.arange(6_000_000, dtype=np.float32)
    assert np.array_equal(child.ask({"double": array}, PATIENCE)["array"], 6 * array)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"raise": "no such row"}, "LookupError: no such row"),
        ("unsendable", "TypeError: a message cannot hold a object"),
    ],
)
def test_the_words_of_an_error_come_through_and_the_process_goes_on(child: Child, message: Any, words: str) -> None:
    pid = child.pid
    with pytest.raises(ChildFault) as raised:
        child.ask(message, PATIENCE)
    assert str(raised.value) == words
    assert "Traceback" in raised.value.__notes__[0]
    assert (child.ask("next", PATIENCE), child.pid) == ("next", pid)


def test_an_end_in_mid_message_hurts_that_message_alone(child: Child) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(child.ask, {"sleep": 600}, 600)
        pid = child.pid
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_SLEEPING and child._turn.locked())
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ChildError, match="was ended by SIGKILL"):
            asked.result(PATIENCE)
    assert child.ask("next", PATIENCE) == "next"
    assert child.pid != pid
    assert not psutil.pid_exists(pid)


def test_an_end_with_a_code_is_told(child: Child) -> None:
    with pytest.raises(ChildError, match="ended with 7"):
        child.ask({"exit": 7}, PATIENCE)


def test_a_message_that_takes_too_long_is_given_up_and_its_process_killed(child: Child) -> None:
    pid = child.pid
    with pytest.raises(ChildError, match="had no answer in time, and was killed"):
        child.ask({"sleep": 600}, 0.2)
    assert child.ask("next", PATIENCE) == "next"
    assert not psutil.pid_exists(pid)


def test_a_process_that_is_stopped_takes_no_message_and_is_killed(child: Child) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(ChildError, match="had no answer"):
        child.ask(np.zeros(10_000_000), 0.5)
    assert child.ask("next", PATIENCE) == "next"


def test_a_message_behind_others_is_given_up_without_harm_to_them(child: Child) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(child.ask, {"sleep": 1}, PATIENCE)
        wait_until(child._turn.locked)
        with pytest.raises(ChildError, match="still busy"):
            child.ask("next", 0.01)
        assert asked.result(PATIENCE) == {"sleep": 1}


def test_threads_get_each_their_own_answer(child: Child) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: child.ask(i, PATIENCE), range(200))) == list(range(200))


def test_a_process_that_ends_between_messages_is_reaped_and_started_again(child: Child) -> None:
    pid = child.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(pid) and child.pid != pid)
    assert child.ask("next", PATIENCE) == "next"


def test_a_child_outlives_the_thread_that_made_it() -> None:
    with ThreadPoolExecutor(1) as pool:
        child = pool.submit(Child, f"{HERE}:answering", {}, PATIENCE).result(PATIENCE)
    pid = child.pid
    assert (child.ask("next", PATIENCE), child.pid) == ("next", pid)
    child.close()


def test_what_its_function_raises_is_raised_where_it_is_made() -> None:
    with pytest.raises(ChildFault, match="ValueError: no such file"):
        Child(f"{HERE}:failing", {"words": "no such file"}, PATIENCE)
    with pytest.raises(ChildFault, match="ModuleNotFoundError"):
        Child("tests.nothing:run", {}, PATIENCE)


def test_an_end_while_it_starts_is_told() -> None:
    with pytest.raises(ChildError, match="did not start: it ended with 3"):
        Child(f"{HERE}:ending", {"code": 3}, PATIENCE)


def test_one_that_does_not_start_again_is_refused_with_its_words(tmp_path: Path) -> None:
    child = Child(f"{HERE}:ending_once", {"path": str(tmp_path / "mark")}, PATIENCE)
    with pytest.raises(ChildError, match="ended with 3"):
        child.ask("end", PATIENCE)

    def refused() -> bool:
        with pytest.raises(ChildError) as raised:
            child.ask("again", PATIENCE)
        return str(raised.value) == "RuntimeError: it was there before"

    wait_until(refused)
    child.close()


def test_it_ends_with_its_object_or_when_it_is_closed() -> None:
    child = Child(f"{HERE}:answering", {}, PATIENCE)
    name, pid = f"child {HERE}:answering", child.pid
    before = sum(thread.name == name for thread in threading.enumerate())
    del child
    wait_until(lambda: not psutil.pid_exists(pid))
    wait_until(lambda: sum(thread.name == name for thread in threading.enumerate()) < before)
    child = Child(f"{HERE}:answering", {}, PATIENCE)
    pid = child.pid
    child.close()
    with pytest.raises(ChildError, match="the process is closed"):
        child.ask("next", PATIENCE)
    wait_until(lambda: not psutil.pid_exists(pid))


def test_it_ends_with_its_parent_even_amid_a_message() -> None:
    code = f"""
import threading, time
from handlers.engine.child import Child
child = Child("{HERE}:answering", {{}})
threading.Thread(target=child.ask, args=({{"sleep": 600}}, 600), daemon=True).start()
time.sleep(0.2)
print(child.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert psutil.Process(pid).ppid() == parent.pid
        parent.kill()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_it_has_no_token_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARLOOP_TOKEN", "secret")
    monkeypatch.setenv("MARLOOP_LOG_SAMPLE", "0.5")
    child = Child(f"{HERE}:answering", {}, PATIENCE)
    assert child.ask({"environment": "MARLOOP_TOKEN"}, PATIENCE) is None
    assert child.ask({"environment": "MARLOOP_LOG_SAMPLE"}, PATIENCE) == "0.5"
    child.close()
