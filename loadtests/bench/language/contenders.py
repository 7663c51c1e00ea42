"""The contenders: each is started for its turn, receives prompts, and is stopped after it."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from loadtests.bench import environments
from loadtests.bench.language import stream
from loadtests.bench.language.answers import Answer, Ask, Task
from loadtests.bench.language.model import Model
from loadtests.bench.language.results import DIRECT, IN_PROCESS, LLAMA_SERVER, LLAMA_TUNED, OURS, TRANSFORMERS
from loadtests.bench.tensors import marloop
from serving import processes
from serving.ports import free_ports
from serving.settings import ROOT, HostName

PEERS = Path(__file__).parent / "peers"
CONTEXT = 2048  # tokens of a peer's context


class Started(NamedTuple):
    """A contender that is ready.

    Attributes:
        ask: sends plain prompts at once.
        port: the server's; 0 without a server.
        path: prefix of OpenAI's routes.
    """

    ask: Ask
    port: int = 0
    path: str = ""


@dataclass(frozen=True)
class Contender:
    """A program that generates.

    Attributes:
        name: its key in the results.
        what: a description in a few words.
        start: starts it with the model and a folder of its own.
        prepare: makes its environment; raises when that is not to be had.
        packages: lists the packages of its environment.
        remembers: whether it caches prompts, so that decoding can be measured without their prefill.
        serial: whether it answers one request after the other.
    """

    name: str
    what: str
    start: Callable[[Model, Path], AbstractContextManager[Started]]
    prepare: Callable[[Callable[[str], None]], None] = lambda say: None
    packages: Callable[[], list[str]] = field(default=list)
    remembers: bool = False
    serial: bool = False


def contenders(root: Path) -> list[Contender]:
    """Return all contenders in the table's order; peers have environments under ``root``."""
    here = Path(sys.executable)
    return [
        Contender(OURS, "Marloop, over HTTP through TorchServe", _torchserve, remembers=True,
                  packages=lambda: environments.versions(here)),
        Contender(DIRECT, "Marloop, over HTTP by the direct host", _direct, remembers=True),
        Contender(IN_PROCESS, "its engine called in process, no server", _in_process, remembers=True),
        _peer(root, TRANSFORMERS, "transformers `generate`, float32, no server", _transformers),
        _peer(root, LLAMA_SERVER, "llama-cpp-python's own server", _llama_server, serial=True),
        _peer(root, LLAMA_TUNED, "the same with all cores and the last logits only", _llama_tuned, LLAMA_SERVER, True),
    ]  # fmt: skip


def _peer(
    root: Path,
    name: str,
    what: str,
    start: Callable[[Path, Model, Path], AbstractContextManager[Started]],
    peer: str = "",
    serial: bool = False,
) -> Contender:
    peer = peer or name
    python = root / peer / "bin" / "python"

    def prepare(say: Callable[[str], None]) -> None:
        environments.ensure(peer, root, say, PEERS, borrow=True)

    def begin(model: Model, folder: Path) -> AbstractContextManager[Started]:
        return start(python, model, folder)

    return Contender(name, what, begin, prepare, lambda: environments.versions(python), serial=serial)


def _torchserve(model: Model, folder: Path) -> AbstractContextManager[Started]:
    return _marloop(model, folder, "torchserve", marloop.COMMAND)


def _direct(model: Model, folder: Path) -> AbstractContextManager[Started]:
    return _marloop(model, folder, "direct", marloop.SUPERVISE)


@contextlib.contextmanager
def _marloop(model: Model, folder: Path, host: HostName, command: Sequence[str]) -> Iterator[Started]:
    (port,) = free_ports(1)
    settings = marloop.settings(port, model.store(folder / "store"), folder / "run", host)
    environment = _environment() | settings.to_environment() | {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    path = f"/predictions/{model.contract.name}/{model.contract.version}/v1"
    try:
        with _server(command, environment, folder, port, path) as started:
            yield started
    finally:
        marloop.forget(folder / "run")


@contextlib.contextmanager
def _in_process(model: Model, folder: Path) -> Iterator[Started]:
    command = [sys.executable, "-m", "loadtests.bench.language.in_process", str(model.directory)]
    with generator(command, _environment() | {"PYTHONPATH": str(ROOT)}, folder) as started:
        yield started


@contextlib.contextmanager
def _transformers(python: Path, model: Model, folder: Path) -> Iterator[Started]:
    command = [str(python), str(PEERS / TRANSFORMERS / "generate.py"), str(model.weights)]
    environment = _environment() | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with generator(command, environment, folder) as started:
        yield started


@contextlib.contextmanager
def generator(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[Started]:
    """Start a program that generates without a server, wait until it is ready, and end it.

    Args:
        command: prints ``ready`` once it has loaded its model; then it answers tasks, each a line of JSON, with a line.
        folder: folder of its log.

        Raises:
            StartError: the program ended; the message has the end of its log.
    """
    with processes.running(command, environment, folder / "log", talks=True) as program:

        def ask(prompts: Sequence[str], max_tokens: int) -> list[Answer]:
            task = msgspec.json.encode(Task(prompts, max_tokens)).decode()
            return msgspec.json.decode(program.ask(task), type=list[Answer])

        while program.hear() != "ready":
            pass
        yield Started(ask)


def _llama_server(python: Path, model: Model, folder: Path) -> AbstractContextManager[Started]:
    return _llama(python, model, folder, {})


def _llama_tuned(python: Path, model: Model, folder: Path) -> AbstractContextManager[Started]:
    return _llama(python, model, folder, {"n_threads": len(os.sched_getaffinity(0)), "logits_all": False})


@contextlib.contextmanager
def _llama(python: Path, model: Model, folder: Path, changed: Mapping[str, object]) -> Iterator[Started]:
    (port,) = free_ports(1)
    # By default the server breaks a stream off when another request comes.
    options = {"model": model.weights, "port": port, "n_ctx": CONTEXT, "verbose": False, "interrupt_requests": False}
    words = [str(word) for name, value in (options | dict(changed)).items() for word in (f"--{name}", value)]
    command = [str(python), "-m", "llama_cpp.server", *words]
    # By default the server is not greedy at a temperature of 0: earlier tokens become less likely.
    with _server(command, _environment(), folder, port, "/v1", {"repeat_penalty": 1.0}) as started:
        yield started


@contextlib.contextmanager
def _server(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    port: int,
    path: str,
    more: Mapping[str, object] | None = None,
) -> Iterator[Started]:
    def ask(prompts: Sequence[str], max_tokens: int) -> list[Answer]:
        bodies = [plain(prompt, max_tokens) | dict(more or {}) for prompt in prompts]
        return stream.ask(port, f"{path}/completions", [stream.Request(body) for body in bodies])

    def answers() -> bool:
        with contextlib.suppress(OSError, stream.StreamError):
            return bool(ask(["Hello"], 1))
        return False

    with processes.running(command, environment, folder / "log") as server:
        server.wait_until(answers)
        yield Started(ask, port, path)


def plain(prompt: str, max_tokens: int) -> dict[str, object]:
    """Return the body of a greedy completion as a stream."""
    return {
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _environment() -> dict[str, str]:
    """Return the variables without a number of threads: each contender takes all cores by option or default."""
    environment = environments.quiet()
    del environment["OMP_NUM_THREADS"]
    return environment
