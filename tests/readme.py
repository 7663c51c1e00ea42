"""Commands, answers and programs that README and docs show; as a program, compares the answers with a service's."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from handlers.contract.example import same_answer
from serving.settings import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
SERVICE = "http://127.0.0.1:8080"
_FENCED = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``start`` and ``end`` are offsets in the page's text."""

    page: Path
    language: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Shown:
    """A command and the answer that a page shows directly below it."""

    page: Path
    command: str
    answer: str

    def run(self, url: str) -> str:
        """Return what the command prints when a service elsewhere answers it."""
        words = shlex.split(self.command.replace("\\\n", " "))
        arguments = [word.replace(SERVICE, url) for word in words]
        done = subprocess.run([*arguments, "-sS"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    def agrees(self, answer: str) -> bool:
        """Return whether a service's answer is the one that is shown."""
        # Training on another processor gives slightly other weights.
        return same_answer(_parsed(answer), _parsed(self.answer), tolerance=0.05)


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    matches = _FENCED.finditer(page.read_text(encoding="utf-8"))
    return [Block(page, match[1], match[2], match.start(), match.end()) for match in matches]


def _answered(command: str, answer: str) -> Iterator[tuple[Block, Block]]:
    """Yield the blocks of one language that have a block of another directly below them."""
    for page in PAGES:
        for first, second in pairwise(blocks(page)):
            if (first.language, second.language, second.start) == (command, answer, first.end + 1):
                yield first, second


def shown() -> list[Shown]:
    """Return every curl command whose answer is JSON."""
    pairs = _answered("sh", "json")
    return [Shown(first.page, first.text, second.text) for first, second in pairs if first.text.startswith("curl ")]


def stream() -> Shown:
    """Return the command that has the language model stream, with the events that it prints."""
    ((command, events),) = _answered("sh", "")
    return Shown(command.page, command.text, events.text)


def client() -> tuple[str, str]:
    """Return the program that asks the language model by OpenAI's client, and what it prints."""
    ((program, printed),) = _answered("py", "")
    return program.text, printed.text


def recipe() -> str:
    """Return the source of the model that the page on models adds."""
    (source,) = (block.text for block in blocks(ROOT / "docs" / "models.md") if block.language == "python")
    return source


def _parsed(answer: str) -> Any:
    """Return an answer without the request's id, which is another each time."""
    parsed = json.loads(answer)
    if isinstance(parsed.get("error"), dict):
        parsed["error"].pop("request_id", None)
    return parsed


def main(url: str) -> int:
    """Run every command against a service with the models of `make up`; return the number of answers that differ."""
    wrong = 0
    for example in shown():
        answer = example.run(url)
        same = example.agrees(answer)
        wrong += not same
        print(f"{'ok  ' if same else 'FAIL'} {example.page.relative_to(ROOT)}: {example.command}     {answer}")  # noqa: T201
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
