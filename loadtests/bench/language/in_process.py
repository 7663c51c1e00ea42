"""The engine of an archive called in process: the best that a server could reach, and the expected answers.

``python -m loadtests.bench.language.in_process DIRECTORY``; tasks and answers as JSON, one a line.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from handlers.entry_points.chat import ChatService
from handlers.language.generation import Finished, Generate, Sampling, Token
from handlers.language.scheduling.batching import ContinuousBatching
from loadtests.bench.language.answers import Answer, Task
from serving.archive import read_config

GREEDY = Sampling(temperature=0)


def load(directory: Path, **changed: Any) -> ContinuousBatching:
    """Load the engine that would serve an unpacked archive, with changes to its handler's settings."""
    settings = read_config(directory).get("handler") or {}
    return ChatService().load_engine(directory, settings | changed)[1]


def generate(
    engine: ContinuousBatching, prompts: Sequence[str], max_tokens: int, sampling: Sampling = GREEDY
) -> list[Answer]:
    """Generate answers to prompts at once.

    Raises:
        RuntimeError: the engine failed at one of them.
    """
    started = time.perf_counter()
    tokens: list[list[Token]] = [[] for _ in prompts]
    times: list[list[float]] = [[] for _ in prompts]
    ends: dict[int, Finished] = {}
    for i, prompt in enumerate(prompts):
        engine.add(Generate(str(i), engine.tokenize(prompt, False), max_tokens, sampling))
    while len(ends) < len(prompts):
        for event in engine.step():
            number = int(event.id)
            if isinstance(event, Finished):
                ends[number] = event
            elif isinstance(event, Token):
                tokens[number].append(event)
                times[number].append(time.perf_counter() - started)
    failed = next((end.error for end in ends.values() if end.reason == "error"), None)
    if failed is not None:
        raise RuntimeError(f"the engine failed: {failed}")
    texts = [b"".join(token.piece for token in mine).decode("utf-8", "replace") for mine in tokens]
    return [Answer(texts[i], times[i], 0.0, ends[i].prompt_tokens, ends[i].cached_tokens) for i in range(len(prompts))]


def main(directory: Path) -> None:
    """Answer each line of standard input."""
    engine = load(directory)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        task = msgspec.json.decode(line, type=Task)
        answers = generate(engine, task.prompts, task.max_tokens)
        sys.stdout.write(msgspec.json.encode(answers).decode() + "\n")
        sys.stdout.flush()
    engine.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
