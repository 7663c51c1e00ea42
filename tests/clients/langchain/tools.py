"""LangChain's tools, as its documentation has them: a call of a Python function, its answer sent back."""

import json
import sys
from typing import Annotated

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import Field

base, prompt = sys.argv[1:]


@tool
def get_weather(city: Annotated[str, Field(max_length=20)], days: Annotated[int, Field(ge=1, le=9)]) -> str:
    """Get the weather of a city for some days."""
    return f"{days} days of rain in {city}"


model = ChatOpenAI(model="chat", base_url=base, api_key="none", max_retries=0, temperature=0, max_tokens=80)
asked = HumanMessage(prompt)
forced = model.bind_tools([get_weather], tool_choice="any", strict=True, parallel_tool_calls=False)
answer = forced.invoke([asked])
(call, *_) = answer.tool_calls
said = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
streamed = None
for part in forced.stream([asked]):
    streamed = part if streamed is None else streamed + part
after = model.bind_tools([get_weather], tool_choice="none").invoke([asked, answer, said])
print(
    json.dumps(
        {
            "name": call["name"],
            "arguments": call["args"],
            "streamed": [each["args"] for each in streamed.tool_calls],
            "whole": [each["args"] for each in answer.tool_calls],
            "after": after.text,
        }
    )
)
