"""The entry point between TorchServe and the core of a language model, with a context of the test's own."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from handlers.entry_points.chat import ChatService, speculative_tokens
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.message import JSON
from tests.handlers.test_service import Context
from tests.support.chat_archive import contract, echoed
from tests.support.handlers.echo_engine import SMOLLM2, EchoEngine

pytestmark = pytest.mark.usefixtures("worker")
STREAM = {"content-type": JSON, "url_path": "v1/completions"}
ASKED = b'{"prompt": "abcdef", "stream": true}'


class EchoService(ChatService):
    def load_engine(self, directory: Path, settings: Mapping[str, Any]) -> tuple[str, ContinuousBatching]:
        self.engine = EchoEngine(slots=1)
        return "echo", self.engine


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., EchoService]:
    """Initializes a service on an archive that holds no weights."""

    def initialize(answer: str = "Hello", config: Any = None) -> EchoService:
        (tmp_path / "assets").mkdir()
        (tmp_path / "assets" / "chat_template.jinja").write_text(SMOLLM2)
        (tmp_path / "contract.json").write_bytes(contract("chat", echoed(answer)).to_json())
        service = EchoService()
        service.initialize(Context(tmp_path, config, name="chat"))
        return service

    return initialize


def step(
    service: ChatService, folder: Path, *requests: tuple[bytes, dict[str, Any]]
) -> tuple[list[bytes], Context, list[Any]]:
    """Bodies, what the context was told, and whether each answer is the last of several."""
    context = Context(folder, headers=[headers for _, headers in requests], name="chat")
    bodies = service.handle([{"body": bytearray(body)} if body else {} for body, _ in requests], context)
    criteria: list[Callable[[bytes], bool | None]] = context.stopping_criteria  # type: ignore[attr-defined]
    return bodies, context, [ends(body) for ends, body in zip(criteria, bodies, strict=True)]


def test_on_torchserves_own_path_a_stream_begins_goes_on_and_is_closed(
    start: Callable[..., EchoService], tmp_path: Path
) -> None:
    service = start()
    told = [step(service, tmp_path, (body, STREAM)) for body in (ASKED, b"", b"")]
    assert [ends for _, _, (ends,) in told] == [False, False, True]
    assert b'"text":"abc"' in told[0][0][0]
    assert told[2][0][0].endswith(b"data: [DONE]\n\n")
    assert told[0][1].answered[0]["content-type"].startswith("text/event-stream")


def test_there_an_error_is_a_whole_answer_and_one_that_waits_begins_with_nothing(
    start: Callable[..., EchoService], tmp_path: Path
) -> None:
    bodies, context, ends = step(start(), tmp_path, (b"{", STREAM), (ASKED, STREAM))
    assert ends == [None, False]
    assert context.statuses == {0: (400, "Bad Request")}
    assert b'"type":"invalid_request_error"' in bodies[0]


def test_one_that_waits_for_a_slot_begins_with_nothing(start: Callable[..., EchoService], tmp_path: Path) -> None:
    service = start()
    both = [Context(tmp_path, headers=[STREAM, STREAM], name="chat")]
    bodies = service.handle([{"body": ASKED}, {"body": ASKED}], both[0])
    assert bodies[0]
    assert bodies[1] == b""


def test_a_wrong_answer_to_the_example_makes_the_model_fail_to_load(
    tmp_path: Path, start: Callable[..., EchoService]
) -> None:
    class Wrong(EchoService):
        pass

    start()
    wrong = contract("chat", echoed("Hello"))
    wrong.example.response["text"] = "Bye"
    (tmp_path / "contract.json").write_bytes(wrong.to_json())
    with pytest.raises(RuntimeError, match="Hello"):
        Wrong().initialize(Context(tmp_path, None, name="chat"))


def test_torchserve_is_told_to_leave_bodies_as_they_are(start: Callable[..., EchoService]) -> None:
    start()
    assert os.environ["TS_DECODE_INPUT_REQUEST"] == "false"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "abacus"}, "llama.cpp or openvino"),
        ({"slots": 0}, "handler.slots"),
        ({"cache_tokens": 0}, "handler.cache_tokens"),
        ({"engine": "llama.cpp", "slots": 2, "cache_tokens": 64}, "handler.cache_tokens is for openvino"),
        ({"engine": "openvino", "num_speculative_tokens": -1}, "handler.num_speculative_tokens is -1 .* whole number"),
        ({"engine": "openvino", "num_speculative_tokens": True}, "handler.num_speculative_tokens is True"),
        ({"engine": "llama.cpp", "num_speculative_tokens": 4}, "llama.cpp drafts none"),
    ],
)
def test_a_wrong_setting_is_told(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        ChatService().load_engine(tmp_path, settings)


def test_openvino_drafts_where_it_is_told_to_and_llama_cpp_never() -> None:
    assert speculative_tokens({}, "openvino") == speculative_tokens({"num_speculative_tokens": 0}, "openvino") == 0
    assert speculative_tokens({"num_speculative_tokens": 3}, "openvino") == 3
    assert speculative_tokens({}, "llama.cpp") == speculative_tokens({"num_speculative_tokens": 0}, "llama.cpp") == 0
