import importlib.util
from collections.abc import Callable

import pytest

from handlers.language.decoders.decoder import DecodeError
from handlers.language.decoders.openvino import EngineError
from training.data import DataError
from training.language import engines

Installed = Callable[..., None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Lets only these modules be found."""

    def only(*modules: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in modules else None)

    return only


def test_the_fastest_that_is_installed_is_chosen(installed: Installed) -> None:
    installed("llama_cpp", "openvino_genai")
    assert engines.choose(None) == "llama.cpp"
    installed("openvino_genai")
    assert engines.choose(None) == "openvino"


def test_what_is_asked_for_is_chosen_though_another_is_faster(installed: Installed) -> None:
    installed("llama_cpp", "openvino_genai")
    assert engines.choose("openvino") == "openvino"


def test_where_there_is_none_the_one_that_comes_as_a_wheel_is_named(installed: Installed) -> None:
    installed()
    with pytest.raises(DataError, match=r"the engine openvino is not installed: run `pip install .*\[chat\]'`"):
        engines.choose(None)


def test_one_that_is_asked_for_and_missing_says_how_it_is_installed(installed: Installed) -> None:
    installed("openvino_genai")
    with pytest.raises(DataError, match=r"the engine llama.cpp is not installed: run `pip install .*\[chat-llama\]'`"):
        engines.choose("llama.cpp")


@pytest.mark.parametrize("error", [EngineError("no bf16"), DecodeError("no bf16"), OSError("no bf16")])
def test_one_that_cannot_be_compiled_is_one_sentence(error: Exception) -> None:
    with (
        pytest.raises(DataError, match=r"^the engine openvino cannot be used on this machine: no bf16$"),
        engines.usable("openvino"),
    ):
        raise error
