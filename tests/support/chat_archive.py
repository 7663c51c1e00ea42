"""Archives of language models, made by hand: with the echo of the tests, or with weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handlers.contract import Example, ModelContract, TensorSpec
from handlers.contract.model_card import Evaluation, Lineage, Reference
from serving import archive
from serving.registry import Registry, State, Version, file_sha256
from tests.support.handlers import echo_engine
from training.packaging.contents import CHAT, pack

CONTEXT = 4000  # tokens of the echo
SETTINGS = {
    "minWorkers": 1,
    "maxWorkers": 1,
    "continuousBatching": True,
    "maxBatchDelay": 1,
    "responseTimeout": 60,
    "jobQueueSize": 100,
}
ECHO = '''
from chat import ChatService
from echo_engine import EchoEngine


class EchoService(ChatService):
    """Serves the echo."""

    def load_engine(self, directory, settings):
        names = ("slots", "context", "queue", "seconds")
        return "echo", EchoEngine(*(settings[name] for name in names))
'''


def contract(name: str, example: Example, version: str = "1.0") -> ModelContract:
    """Of a language model."""
    return ModelContract(
        name=name,
        version=version,
        task="generation",
        inputs=(TensorSpec("prompt", "BYTES"),),
        outputs=(TensorSpec("text", "BYTES"),),
        labels=(),
        example=example,
        reference=Reference(),
        evaluation=Evaluation(),
        lineage=Lineage(),
    )


def echoed(text: str) -> Example:
    """What the echo answers in the native form."""
    prompt, generated = len(text.encode()), -(-len(text.encode()) // echo_engine.SIZE)
    counts = {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}
    return Example({"prompt": text}, {"text": text, "finish_reason": "stop", "usage": counts})


def register(
    store: Path,
    model: ModelContract,
    settings: Mapping[str, Any],
    template: str,
    files: Mapping[str, bytes] | None = None,
    entry_point: str = "chat.py",
) -> None:
    """Pack an archive and make it the champion.

    Args:
        store: the model store.
        model: its contract.
        settings: ``model-config.yaml``.
        template: for conversations.
        files: more to pack.
        entry_point: that TorchServe loads.
    """
    assets = {"assets/chat_template.jinja": template.encode()}
    content = pack(model, CHAT, "a language model of the tests", settings, assets | dict(files or {}))
    manifest = archive.read_file(content, archive.MANIFEST).replace(b'"chat.py"', json.dumps(entry_point).encode())
    store.mkdir(parents=True, exist_ok=True)
    path = store / f"{model.name}-{model.version}.mar"
    path.write_bytes(archive.rewritten(content, {archive.MANIFEST: manifest}))
    with Registry(store).change() as models:
        created = "2026-01-01T00:00:00+00:00"
        state: State = "challenger" if model.name in models else "champion"
        versions = models.get(model.name, {})
        models[model.name] = versions | {model.version: Version(path.name, file_sha256(path), state, created)}


def register_echo(
    store: Path,
    name: str,
    slots: int,
    room: int,
    seconds: float,
    wire: bool = True,
    queue: int = 256,
    version: str = "1.0",
    **more: Any,
) -> None:
    """Pack the echo.

    Args:
        store: the model store.
        name: of the model.
        slots: requests that run at once.
        room: requests beyond these that TorchServe hands to the worker.
        seconds: that a step takes.
        wire: whether the worker's socket is read through a buffer.
        queue: requests that wait in the worker at most.
        version: a first one is champion, a later one a challenger.
        more: settings of TorchServe.
    """
    model = contract(name, echoed("Hello"), version)
    handler = {"slots": slots, "context": CONTEXT, "seconds": seconds, "wire": wire, "queue": queue}
    settings = SETTINGS | {"batchSize": slots + room, "handler": handler} | more
    files = {"echo_chat.py": ECHO.encode(), "echo_engine.py": Path(echo_engine.__file__).read_bytes()}
    register(store, model, settings, echo_engine.SMOLLM2, files, "echo_chat.py")
