"""Parse requests of vLLM's ``/tokenize`` and ``/detokenize``."""

from typing import NamedTuple

import msgspec

from handlers import json_io
from handlers.language.api.conversations import conversation, plain
from handlers.language.api.forms import DetokenizeRequest, TokenizeRequest, describe
from handlers.language.api.neutral import TOKENIZE, members_of
from handlers.language.api.requests import Prompt, goes_on
from handlers.message import InputError

_DETOKENIZE = msgspec.json.Decoder(DetokenizeRequest)


class Tokenize(NamedTuple):
    """What is to be split into tokens.

    Attributes:
        path: JSON path of the prompt.
        pieces: whether the text of each token is wanted too.
        goes_on: whether an answer would go on with the last message.
    """

    prompt: Prompt
    path: str
    pieces: bool
    goes_on: bool = False


def tokenize(body: bytes) -> Tokenize:
    """Parse a body of ``/tokenize``.

    Raises:
        InputError: the body has another form.
    """
    members = plain(members_of(body, TOKENIZE))
    parameters = json_io.convert(members, TokenizeRequest, describe(TokenizeRequest))
    if (parameters.prompt is None) == (parameters.messages is None):
        raise InputError("invalid_parameter", "one of prompt and messages is needed", "$", "prompt or messages")
    pieces = bool(parameters.return_token_strs)
    if parameters.messages is None:
        return Tokenize(parameters.prompt or "", "$.prompt", pieces)
    if not parameters.messages:
        raise InputError("empty", "there are no messages", "$.messages", "at least one message")
    messages = conversation(parameters.messages)
    return Tokenize(messages, "$.messages", pieces, goes_on(parameters, messages))


def detokenize(body: bytes) -> list[int]:
    """Parse a body of ``/detokenize``, and return its tokens.

    Raises:
        InputError: the body has another form.
    """
    parameters = json_io.decode_strictly(_DETOKENIZE, body, describe(DetokenizeRequest))
    return parameters.tokens
