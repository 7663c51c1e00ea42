"""LiteLLM's client, as its documentation has it: a conversation, a stream, its own answer sent back, errors."""

import json
import sys

import litellm

litellm.suppress_debug_info = True  # else it prints where to get help
base, text = sys.argv[1:]
where = {"model": "openai/chat", "api_base": base, "api_key": "none", "num_retries": 0, "max_retries": 0}
asked = [{"role": "system", "content": "Say it again."}, {"role": "user", "content": text}]
answer = litellm.completion(messages=asked, **where)
stream = litellm.completion(messages=asked, stream=True, stream_options={"include_usage": True}, **where)
streamed = "".join(part.choices[0].delta.content or "" for part in stream if part.choices)
turns = [*asked, answer.choices[0].message, {"role": "user", "content": "two"}]
again = litellm.completion(messages=turns, **where)
dumped = litellm.completion(messages=[*asked, answer.choices[0].message.model_dump(), turns[-1]], **where)
try:
    litellm.completion(messages=[{"role": "user", "content": "x" * 20000}], **where)
    overflow = ""
except Exception as error:
    overflow = type(error).__name__
tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
tools = litellm.completion(messages=asked, tools=[tool], **where).choices[0].message.content
print(
    json.dumps(
        {
            "answer": answer.choices[0].message.content,
            "streamed": streamed,
            "again": again.choices[0].message.content,
            "dumped": dumped.choices[0].message.content,
            "overflow": overflow,
            "tools": tools,
        }
    )
)
