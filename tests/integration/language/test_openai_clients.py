"""Clients of OpenAI's API that others write, each unmodified in an environment of its own, on a real TorchServe."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.environments import run
from tests.integration.conftest import serve, settings_for
from tests.support.chat_archive import register_echo

TEXT = "Grüße, 世界 😀"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """TorchServe with the echo."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        register_echo(store, "chat", 4, 12, 0.005)
        with serve(settings_for(store, Path(folder) / "run")) as running:
            yield running.url


@pytest.fixture(params=["/predictions/chat/1.0/v1", "/models/chat/invoke?path=/v1"])
def base(url: str, request: pytest.FixtureRequest) -> str:
    return f"{url}{request.param}"


def test_langchain_converses(base: str) -> None:
    answer = run("langchain", "chat.py", base, TEXT)
    assert (answer["answer"], answer["streamed"], answer["again"]) == (TEXT, TEXT, "two")
    assert (answer["stopped"], answer["completed"], answer["tools"]) == ("a", "abc", "a")
    assert "ContextOverflowError" in str(answer["overflow"]).split()


def test_litellm_converses(base: str) -> None:
    answer = run("litellm", "chat.py", base, TEXT)
    assert (answer["answer"], answer["streamed"]) == (TEXT, TEXT)
    assert (answer["again"], answer["dumped"]) == ("two", "two")
    assert answer["overflow"] == "ContextWindowExceededError"
    assert answer["tools"] == TEXT


def test_openais_client_for_javascript_converses(url: str) -> None:
    # It appends to the path and not to the query, so without a version it needs the gateway.
    answer = run("javascript", "chat.mjs", f"{url}/predictions/chat/1.0/v1", TEXT)
    assert (answer["answer"], answer["streamed"], answer["helped"], answer["again"]) == (TEXT, TEXT, TEXT, "two")
    assert (answer["completed"], answer["models"]) == ("abc", ["chat"])
    overflow = {"kind": "BadRequestError", "code": "context_length_exceeded", "param": "messages"}
    assert answer["overflow"] == overflow
    assert answer["hot"] == {"kind": "BadRequestError", "code": "out_of_range", "param": "temperature"}
