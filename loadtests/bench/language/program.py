"""A program that generates without a server: a task on its standard input, the answers on its output, a line each."""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from loadtests.bench.language.answers import Answer, Ask
from loadtests.bench.processes import StartError

GRACE = 10.0  # s to end by itself


@contextlib.contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[Ask]:
    """Start it, wait until it is ready, and end it.

    Args:
        command: says ``ready`` once it has loaded its model.

    Raises:
        StartError: it ended; the message has the end of its log.
    """
    log = folder / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdin
    assert process.stdout
    tasks, lines = process.stdin, process.stdout

    def line() -> str:
        found = lines.readline()
        if not found:
            raise StartError(f"it ended; the end of its log: {log.read_text(errors='replace')[-1500:]}")
        return found

    def ask(prompts: Sequence[str], max_tokens: int) -> list[Answer]:
        tasks.write(msgspec.json.encode({"prompts": prompts, "max_tokens": max_tokens}).decode() + "\n")
        tasks.flush()
        return msgspec.json.decode(line(), type=list[Answer])

    try:
        while line() != "ready\n":
            pass
        yield ask
    finally:
        with contextlib.suppress(OSError):
            tasks.close()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        lines.close()
