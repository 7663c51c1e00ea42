"""Turn a conversation into tokens by the chat template that came with a model's weights.

A template is a foreign program in Jinja, so it runs in Jinja's sandbox ("Sandbox" in its documentation).
"""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from handlers.message import InputError

FILE = "chat_template.jinja"  # in the archive, as Hugging Face names it
Tokenize = Callable[[str, bool], list[int]]
_MARKUP = re.compile(r"<[^<>\s]{1,40}>|\[/?[A-Z_]{1,20}\]")  # forms of a control token


class RefusedError(TemplateError):
    """A template refuses a conversation, in its own words."""


class ChatTemplate:
    """Writes conversations as tokens.

    Args:
        source: the template, which may use ``messages``, ``add_generation_prompt`` and ``raise_exception``.
        tokenize: splits a text; its flag says whether names of control tokens become these tokens.

    Raises:
        ValueError: the template is not valid Jinja.
    """

    def __init__(self, source: str, tokenize: Tokenize) -> None:
        # The settings are those with which the templates of Hugging Face are written.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ValueError(f"{FILE} is no template: {error}") from error
        self._tokenize = tokenize
        names = {
            name for name in _MARKUP.findall(source) if len(tokenize(name, True)) == 1 < len(tokenize(name, False))
        }
        self._control = re.compile("|".join(map(re.escape, sorted(names))) or r"(?!)")

    def tokens(
        self, messages: Sequence[Mapping[str, str]], path: str = "$.messages", goes_on: bool = False
    ) -> list[int]:
        """Return the tokens of a conversation and of the beginning of the answer.

        Only the template's own control tokens become control tokens: ``<|im_end|>`` in a message is text. All other
        text is split in one piece, as in training.

        Args:
            messages: ``role`` and ``content`` of each.
            path: JSON path of the messages in the request.
            goes_on: whether the last message is the beginning of the answer, which nothing ends.

        Raises:
            InputError: the template refuses the conversation, or fails on it.
        """
        mark = secrets.token_hex(16)  # no message can contain it
        marked = [{**message, "content": f"{mark}<{message['content']}{mark}>"} for message in messages]
        try:
            text = self._template.render(messages=marked, add_generation_prompt=not goes_on)
        except (TemplateError, TypeError, ValueError) as error:
            fault = str(error) if isinstance(error, RefusedError) else "the model's template fails on this conversation"
            raise InputError("invalid_parameter", fault, path, "a conversation for this model") from error
        parts = re.split(f"{mark}<(.*?){mark}>", text, flags=re.DOTALL)
        if any(
            mark in part for part in parts
        ):  # otherwise a message that was cut could pass for the template's own text
            raise InputError("internal", "the chat template cuts what was written", path)
        own, contents = parts[::2], parts[1::2]
        if goes_on:
            if not contents or contents[-1] != messages[-1]["content"]:
                raise InputError("invalid_parameter", "the model's template does not end with the last message", path)
            own[-1] = ""
        return self._joined(own, contents)

    def _joined(self, own: Sequence[str], contents: Sequence[str]) -> list[int]:
        """Return the tokens of the template's own texts and the messages' contents, in turn."""
        tokens: list[int] = []
        run = ""
        for template, content in zip_longest(own, contents, fillvalue=""):
            start = 0
            for control in self._control.finditer(template):
                tokens += self._plain(run + template[start : control.start()])
                tokens += self._tokenize(control[0], True)
                run, start = "", control.end()
            run += template[start:] + content
        return tokens + self._plain(run)

    def _plain(self, text: str) -> list[int]:
        return self._tokenize(text, False) if text else []


def _refuse(message: Any) -> NoReturn:
    raise RefusedError(str(message))
