"""LangChain's client, as its documentation has it: a conversation, a stream, its own answer sent back, errors."""

import json
import sys

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI

base, text = sys.argv[1:]
model = ChatOpenAI(model="chat", base_url=base, api_key="none", max_retries=0)
asked = [SystemMessage("Say it again."), HumanMessage(text)]
answer = model.invoke(asked)
streamed = "".join(part.text for part in model.stream(asked))
again = model.invoke([*asked, answer, HumanMessage("two")])
seeded = model.bind(stop=["b"], seed=7, logprobs=True).invoke("abc")
try:
    model.invoke("x" * 20000)
    overflow = ""
except Exception as error:
    overflow = " ".join(kind.__name__ for kind in type(error).__mro__)
tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
tools = model.bind_tools([tool]).invoke("a").text
completed = OpenAI(model="chat", base_url=base, api_key="none", max_retries=0).invoke("abc")
print(
    json.dumps(
        {
            "answer": answer.text,
            "streamed": streamed,
            "again": again.text,
            "stopped": seeded.text,
            "tokens": answer.usage_metadata["total_tokens"],
            "overflow": overflow,
            "tools": tools,
            "completed": completed,
        }
    )
)
