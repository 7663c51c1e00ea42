"""LangChain's structured output, as its documentation has it: an object of a Pydantic class."""

import json
import sys
from typing import Literal

from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

base, prompt = sys.argv[1:]


class Animal(BaseModel):
    """An animal."""

    name: str = Field(max_length=12)
    legs: int = Field(ge=0, le=8)
    kind: Literal["bird", "fish", "mammal"]


model = ChatOpenAI(model="chat", base_url=base, api_key="none", max_retries=0, temperature=0, max_tokens=60)
answers = {
    method: model.with_structured_output(Animal, method=method).invoke(prompt).model_dump()
    for method in ("json_schema",)
}
print(json.dumps(answers))
