"""What the README shows: its curl commands with the answers below them, and its recipe."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from handlers.handler import same_answer
from serving.settings import ROOT

README = ROOT / "README.md"
_CURL = re.compile(r"```sh\n(curl .*?)\n```\n```json\n(.*?)\n```", re.DOTALL)
_CLIENT = re.compile(r"```py\n(.*?)```\n```\n(.*?)\n```", re.DOTALL)
_RECIPE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """A command and the answer that the README gives to it."""

    command: str
    answer: Any

    def run(self, url: str) -> Any:
        """The answer of a service elsewhere than the README's."""
        words = shlex.split(self.command.replace("\\\n", " "))
        arguments = [word.replace("http://127.0.0.1:8080", url) for word in words]
        done = subprocess.run([*arguments, "-sS"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)


def shown() -> list[Shown]:
    """Every curl command of the README."""
    return [Shown(command, json.loads(answer)) for command, answer in _CURL.findall(README.read_text())]


def client() -> tuple[str, str]:
    """The program that asks the language model by OpenAI's client, and what it prints."""
    ((program, printed),) = _CLIENT.findall(README.read_text())
    return str(program), str(printed)


def recipe() -> str:
    """The source of the README's own model."""
    (source,) = _RECIPE.findall(README.read_text())
    return str(source)


def main(url: str) -> int:
    """Run every command against a service with the models of `make up`; the number of answers that differ."""
    wrong = 0
    for one in shown():
        found, expected = one.run(url), one.answer
        for answer in (found, expected):
            answer.get("error", {}).pop("request_id", None)
        # Training on another processor gives slightly other weights.
        same = same_answer(found, expected, tolerance=0.05)
        wrong += not same
        print(f"{'ok  ' if same else 'FAIL'} {one.command}\n     {found}")  # noqa: T201
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
