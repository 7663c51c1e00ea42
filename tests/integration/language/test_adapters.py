"""Adapters beside one model on both hosts, asked by OpenAI's own client; the model is the tiny one on OpenVINO."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import openai
import pytest

from handlers.language.decoders.adapters import layer_names, write_adapter
from serving.registry import Registry
from serving.settings import HostName
from tests.integration.conftest import serve, settings_for
from tests.support.training import tiny as making
from tests.support.training.tiny import LAYERS, random_adapter
from training.language.adapters.beside import add_adapter
from training.language.gguf_file import write_gguf
from training.language.imported import LanguageOptions, bring_language

pytest.importorskip("openvino_genai", reason="openvino-genai is not installed: pip install -e '.[chat]'")
pytest.importorskip("gguf", reason="gguf is not installed: pip install -e '.[chat]'")


NAMES = ["chat", "chat:pirate", "chat:poet"]
HOSTS: dict[HostName, str] = {"torchserve": "/predictions/chat/1.2/v1", "direct": "/v1"}


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, openai.OpenAI]]:
    """A client of each host, which serves a model with two adapters."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        folder = Path(scratch)
        tiny = making.load(making.write(folder / "tiny.gguf"))
        write_gguf(tiny.path, tiny.metadata, tiny.weights, folder / "chat.gguf", "Q8_0")
        registry = Registry(folder / "store")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("training.language.engines.MODULES", {"openvino": "openvino_genai"})
            bring_language(folder / "chat.gguf", registry, LanguageOptions(name="chat"))
        for number, name in enumerate(("pirate", "poet")):
            write_adapter(folder / name, random_adapter(tiny, number, 4, [*layer_names(LAYERS)]), 4)
            add_adapter(registry, "chat", name, folder / name, folder)
        served: dict[str, openai.OpenAI] = {}
        for host, path in HOSTS.items():
            store = shutil.copytree(folder / "store", folder / host / "store")
            server = running.enter_context(serve(settings_for(store, folder / host / "run", host=host)))
            served[str(host)] = openai.OpenAI(base_url=f"{server.url}{path}", api_key="none", max_retries=0)
        yield served


@pytest.fixture(params=HOSTS)
def client(clients: dict[str, openai.OpenAI], request: pytest.FixtureRequest) -> openai.OpenAI:
    return clients[request.param]


def test_each_name_answers_in_its_own_way_and_says_so(client: openai.OpenAI) -> None:
    answers = {}
    for name in NAMES:
        answer = client.completions.create(model=name, prompt="The tide", temperature=0, max_tokens=12)
        assert answer.model == name
        stream = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "Who?"}], temperature=0, max_tokens=12, stream=True
        )
        assert {chunk.model for chunk in stream} == {name}
        said = client.responses.create(model=name, input="Who?", temperature=0, max_output_tokens=12)
        assert said.model == name
        answers[name] = answer.choices[0].text
    assert len({*answers.values()}) == len(NAMES)


def test_the_list_of_models_has_the_model_and_its_adapters(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == NAMES
    assert client.models.retrieve("chat:poet").id == "chat:poet"


def test_an_unknown_adapter_is_not_found_and_the_known_ones_are_told(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="expected chat, chat:pirate, chat:poet") as refusal:
        client.completions.create(model="chat:parrot", prompt="x")
    assert refusal.value.code == "model_not_found"


def test_a_version_may_follow_the_adapter(client: openai.OpenAI) -> None:
    first, second = (
        client.completions.create(model=name, prompt="The tide", temperature=0, max_tokens=12).choices[0].text
        for name in ("chat:poet", "chat:poet@1.2")
    )
    assert first == second
