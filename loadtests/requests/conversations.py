"""Random requests for a language model: conversations of several lengths whose turns share a system prompt.

The words are our own. A conversation of more turns begins with that of fewer, as a real one does: a service can use its
cache of earlier turns.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import orjson

from handlers.contract import ModelContract
from handlers.message import JSON

Kind = Literal["stream", "counted", "left", "invalid", "example"]
CHAT, RESPONSES = "v1/chat/completions", "v1/responses"
SHARES = {"example": 0.02, "counted": 0.05, "invalid": 0.05, "left": 0.05}  # the others stream
LEAST, MOST = 8, 48  # range of an answer's most tokens

# A system prompt, and turns of a user with plausible answers of an assistant.
_TALKS: list[tuple[str, list[tuple[str, str]]]] = [
    (
        "You help travellers. Answer in a few short sentences, in plain words.",
        [
            ("Hello! Can you help me to plan a day?", "Gladly. Where are you, and how much time do you have?"),
            (
                "I am in a harbour town, from nine in the morning until six. I like old ships and good soup.",
                "Begin at the quay while it is quiet, then visit the museum, and have soup by the market.",
            ),
            ("What if it rains?", "Then do it the other way round: the museum first, the quay when it clears up."),
            ("And where could I sit down with a book?", "The reading room of the library looks out over the water."),
            ("Thank you. Tell me again in one sentence.", "Quay, museum, soup, and a chair by the window."),
        ],
    ),
    (
        "You are a patient teacher. Explain one thing at a time and give an example for each.",
        [
            ("Why is the sea salty?", "Rivers carry salt from the rocks into it, and only the water leaves again."),
            ("Does it get saltier every year?", "Hardly: some of the salt settles on the ground of the sea."),
            (
                "Here is what I wrote for school, please tell me what is wrong with it. The sun warms the sea, so that "
                "water rises as vapour. High up it is cold, and the vapour becomes drops, which are the clouds. When "
                "the drops are heavy enough they fall as rain, and where it is colder still as snow. The rain runs "
                "into brooks, the brooks into rivers, and the rivers back into the sea. On its way the water takes a "
                "little salt from every stone that it passes, but the clouds leave the salt behind, and that is why "
                "rain tastes of nothing, while the sea tastes of salt.",
                "Nothing is wrong with it. You could add that some rain seeps into the ground first.",
            ),
            ("Which word should I look up?", "Evaporation: it is the word for water that becomes vapour."),
        ],
    ),
    (
        "",
        [("Count from one to ten.", "One, two, three, four, five, six, seven, eight, nine, ten."), ("Backwards!", "")],
    ),
    ("Say it in another language.", [("Grüße aus 東京 😀, до свидания!", "Greetings."), ("¿Y en español?", "")]),
]


@dataclass(frozen=True)
class ChatRequest:
    """One request to a language model.

    Attributes:
        kind: purpose: a ``stream`` to its end, one whose tokens are ``counted``, one whose client has ``left`` after a
            few, an ``invalid`` one, or the contract's ``example`` in the native form.
        path: behind the version in the URL.
        max_tokens: most tokens of the answer.
        status: status of the right answer.
        code: code of the right error.
    """

    kind: Kind
    path: str
    body: bytes
    max_tokens: int = 0
    status: int = 200
    code: str = ""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": JSON})

    def url(self, contract: ModelContract) -> str:
        """Return the path of the route with the version: without one TorchServe takes ``v1`` for it."""
        return f"/predictions/{contract.name}/{contract.version}/{self.path}".rstrip("/")


def draw_requests(contract: ModelContract, rng: np.random.Generator, count: int) -> list[ChatRequest]:
    """Draw requests of all kinds by their shares, at least one of each."""
    counts = {kind: max(1, round(count * share)) for kind, share in SHARES.items()}
    faults = invalid()
    requests = [example(contract)] * counts["example"]
    requests += [faults[int(rng.integers(len(faults)))] for _ in range(counts["invalid"])]
    requests += [stream(rng, "counted") for _ in range(counts["counted"])]
    requests += [stream(rng, "left") for _ in range(counts["left"])]
    return requests + [stream(rng) for _ in range(count - len(requests))]


def example(contract: ModelContract) -> ChatRequest:
    """Return the contract's example; the right answer is the contract's."""
    return ChatRequest("example", "", orjson.dumps(contract.example.request))


def stream(rng: np.random.Generator, kind: Kind = "stream") -> ChatRequest:
    """Draw a conversation for an answer as a stream, with the numbers of tokens at its end."""
    most = int(rng.integers(LEAST, MOST + 1))
    body: dict[str, Any] = {
        "messages": conversation(rng),
        "max_tokens": most,
        "temperature": float(rng.choice([0.0, 0.7])),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if kind == "counted":  # every event names its tokens
        body["logprobs"] = True
    return ChatRequest(kind, CHAT, orjson.dumps(body), most)


def conversation(rng: np.random.Generator) -> list[dict[str, str]]:
    """Draw the messages of a conversation up to one of the user's turns."""
    system, turns = _TALKS[int(rng.integers(len(_TALKS)))]
    at = int(rng.integers(len(turns)))
    messages = [{"role": "system", "content": system}] if system else []
    for question, answer in turns[:at]:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [*messages, {"role": "user", "content": turns[at][0]}]


def invalid() -> list[ChatRequest]:
    """Return a request for every fault."""
    hello = {"messages": [{"role": "user", "content": "Hello!"}]}
    return [
        _refused("missing_field", {"max_tokens": 8}),
        _refused("empty", {"messages": []}),
        _refused("empty", b""),
        _refused("invalid_json", b'{"messages": ['),
        _refused("invalid_utf8", b'{"messages": [{"role": "user", "content": "\xff"}]}'),
        _refused("unknown_field", hello | {"no_such_parameter": 1}),
        _refused("wrong_type", {"messages": "Hello!"}),
        _refused("unknown_category", {"messages": [{"role": "nobody", "content": "Hello!"}]}),
        _refused("out_of_range", hello | {"temperature": 3}),
        _refused("out_of_range", hello | {"max_tokens": 0}),
        _refused("out_of_range", hello | {"n": 0}),
        _refused("invalid_parameter", hello | {"stream_options": {"include_usage": True}}),
        _refused("unsupported_value", hello | {"response_format": {"type": "grammar"}}),
        _refused("context_length_exceeded", hello | {"max_tokens": 10_000_000}),
        _refused("unsupported_media_type", hello, 415, {"Content-Type": "text/plain"}),
        _refused("not_found", hello, 404, path="v1/embeddings"),
        _refused("missing_field", {"max_output_tokens": 8}, path=RESPONSES),
        _refused("unknown_field", {"input": "Hello!", "max_tokens": 8}, path=RESPONSES),
        _refused("unsupported_value", {"input": "Hello!", "previous_response_id": "resp_1"}, path=RESPONSES),
        _refused("unsupported_value", {"input": [{"type": "item_reference", "id": "msg_1"}]}, path=RESPONSES),
        _refused("context_length_exceeded", {"input": "Hello!", "max_output_tokens": 10_000_000}, path=RESPONSES),
    ]


def _refused(
    code: str, body: Any, status: int = 400, headers: dict[str, str] | None = None, path: str = CHAT
) -> ChatRequest:
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    return ChatRequest("invalid", path, text, status=status, code=code, headers=headers or {"Content-Type": JSON})
