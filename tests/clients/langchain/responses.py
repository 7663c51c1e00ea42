"""LangChain by the Responses API: a conversation, a stream, its own answer sent back, tools, an object, an overflow."""

import json
import sys

from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

base, text, call, animal = sys.argv[1:]


@tool
def get_weather(city: str, days: int) -> str:
    """Get the weather of a city for some days."""
    return f"{days} days of rain in {city}"


class Animal(BaseModel):
    """An animal."""

    name: str
    legs: int


def added(parts):
    """The sum of a stream's parts."""
    first, *others = parts
    for part in others:
        first = first + part
    return first


model = ChatOpenAI(model="chat", base_url=base, api_key="none", max_retries=0, use_responses_api=True)
asked = [SystemMessage("Say it again."), HumanMessage(text)]
answer = model.invoke(asked)
bound = model.bind_tools([get_weather], tool_choice="any", strict=True, parallel_tool_calls=False)
called = bound.invoke([HumanMessage(call)])
returned = [ToolMessage(get_weather.invoke(each["args"]), tool_call_id=each["id"]) for each in called.tool_calls]
try:
    model.invoke("x" * 20000)
    overflow = ""
except Exception as error:
    overflow = " ".join(kind.__name__ for kind in type(error).__mro__)
print(
    json.dumps(
        {
            "answer": answer.text,
            "streamed": "".join(part.text for part in model.stream(asked)),
            "again": model.invoke([*asked, answer, HumanMessage("two")]).text,
            "calls": [each["args"] for each in called.tool_calls],
            "streamed_calls": [each["args"] for each in added(bound.stream([HumanMessage(call)])).tool_calls],
            "after": model.invoke([HumanMessage(call), called, *returned]).text,
            "animal": model.with_structured_output(Animal).invoke(animal).model_dump(),
            "overflow": overflow,
        }
    )
)
