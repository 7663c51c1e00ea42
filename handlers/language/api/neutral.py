"""Neutral values of parameters that are not offered: clients send them by default, and they change nothing.

The parameters are of OpenAI's API, and of servers that offer more (vLLM, llama.cpp). A neutral value is ignored; any
other is refused by name.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from handlers import json_io
from handlers.message import InputError

_OBJECT: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_EMPTY: tuple[Any, ...] = ([], {})
_OFF: tuple[Any, ...] = (False,)
# By name, the neutral values; null is one of each.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "functions": _EMPTY,
    "function_call": ("none", "auto"),
    "store": _OFF,
    "metadata": _EMPTY,
    "modalities": (["text"], []),
    "audio": _EMPTY,
    "reasoning_effort": ("none",),
    "reasoning": _EMPTY,
    "verbosity": ("medium",),
    "service_tier": ("auto", "default"),
    "web_search_options": (),
    "prompt_cache_retention": ("in_memory", "in-memory"),
    "prompt_cache_options": _EMPTY,
    "moderation": _EMPTY,
    "best_of": (1,),
    "suffix": ("",),
    "typical_p": (1,),
    "repeat_penalty": (1,),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "use_beam_search": _OFF,
    "stop_token_ids": _EMPTY,
    "bad_words": _EMPTY,
    "logits_processors": _EMPTY,
    "include_stop_str_in_output": _OFF,
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "return_tokens_as_token_ids": _OFF,
    "add_generation_prompt": (True,),
    "continue_final_message": _OFF,
    "add_special_tokens": _OFF,
    "chat_template": (),
    "chat_template_kwargs": _EMPTY,
    "documents": _EMPTY,
    "guided_grammar": (),
    "priority": (0,),
    "grammar": ("",),
    "json_schema": (),
    "mirostat": (0,),
    "extra_body": _EMPTY,
    "extra_headers": _EMPTY,
}
_WRITTEN = ("add_generation_prompt", "continue_final_message")  # how a conversation is written
TOKENIZE = {name: values for name, values in NEUTRAL.items() if name not in _WRITTEN}
# A conversation may be kept where its client says so.
CHAT = {name: values for name, values in TOKENIZE.items() if name not in ("store", "metadata")} | {"echo": _OFF}
# Completions have no tools and no prediction.
COMPLETION = NEUTRAL | {
    "tools": _EMPTY,
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "prediction": _EMPTY,
}
# The Responses API names what is stored, and may be told to keep a conversation.
RESPONSE = {name: values for name, values in NEUTRAL.items() if name not in ("store", "metadata")} | {
    "n": (1,),
    "prediction": _EMPTY,
    "stop": _EMPTY,
    "background": _OFF,
    "background_options": _EMPTY,
    "context_management": _EMPTY,
    "prompt": (),
    "image": _EMPTY,
    "access_programs": _EMPTY,
    "max_tool_calls": (),
    "truncation": ("disabled",),
}
# Members of a message beside its text, as answers carry them.
MESSAGE: dict[str, tuple[Any, ...]] = {
    "type": ("text", "message"),
    "refusal": ("",),
    "parsed": (),
    "annotations": _EMPTY,
    "function_call": _EMPTY,
    "audio": _EMPTY,
    "reasoning": ("",),
    "reasoning_content": ("",),
    "reasoning_details": _EMPTY,
    "thinking_blocks": _EMPTY,
    "images": _EMPTY,
    "provider_specific_fields": _EMPTY,
}
# Members of an item of the Responses API, as answers of other servers carry them.
ITEM: dict[str, tuple[Any, ...]] = {"async": _OFF, "async_": _OFF, "caller": _EMPTY, "namespace": ()}
# Members of a message's part.
PART: dict[str, tuple[Any, ...]] = {
    "annotations": _EMPTY,
    "cache_control": (),
    "id": (),
    "index": (0,),
    "logprobs": _EMPTY,
}


def without(members: Mapping[str, Any], neutral: Mapping[str, tuple[Any, ...]], path: str) -> dict[str, Any]:
    """Return an object without its neutral members.

    Args:
        neutral: neutral values by name.
        path: of the object.

    Raises:
        InputError: a member asks for something that is not offered.
    """
    others: dict[str, Any] = {}
    for name, value in members.items():
        if name not in neutral:
            others[name] = value
        elif value is not None and not any(_same(value, other) for other in neutral[name]):
            right = ", ".join(["null", *(repr(other).replace("'", '"') for other in neutral[name])])
            message = f"{name} is not offered by this model"
            raise InputError("unsupported_value", message, f"{path}.{name}", f"nothing, or one of {right.lower()}")
    return others


def members_of(body: bytes, neutral: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Decode a body, and return its members without the neutral ones.

    Raises:
        InputError: the body is no JSON object, or a member asks for something that is not offered.
    """
    members: dict[str, Any] = json_io.decode_strictly(_OBJECT, body)
    return without(members, neutral, "$")


def _same(value: Any, other: Any) -> bool:
    """Tell whether two values are the same JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict) and isinstance(other, dict):
        # {"refusal": null} and the like, as some clients send an object without content.
        return not other and all(member is None or member in ([], {}) for member in value.values())
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)
