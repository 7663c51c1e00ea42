"""The parts of a language model's archive that do not depend on where its weights came from."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from handlers.contract import Example, ModelContract, TensorSpec
from handlers.contract.model_card import Evaluation, Lineage, Reference
from handlers.language.api.defaults import FILE as GENERATION
from handlers.language.api.defaults import NO_DEFAULTS, Defaults
from handlers.language.handler import ChatHandler
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.template import FILE as TEMPLATE
from handlers.language.template import ChatTemplate
from serving.archive import ASSETS
from serving.archive.autoscaling import with_autoscaling
from training.language import engines
from training.language.recipe import Engine, LanguageServing
from training.packaging import contents

OWN_CACHES = 8  # slots of llama.cpp, each of which has a share of the cache


def contract_of(name: str, evaluation: Evaluation, lineage: Lineage) -> ModelContract:
    """Return a contract without a version and an example."""
    return ModelContract(
        name=name,
        version="",
        task="generation",
        inputs=(TensorSpec("prompt", "BYTES", description="a text that the model goes on with"),),
        outputs=(TensorSpec("text", "BYTES", description="how it goes on"),),
        labels=(),
        example=Example({}, {}),
        reference=Reference(),
        evaluation=evaluation,
        lineage=lineage,
    )


def with_example(
    contract: ModelContract, engine: ContinuousBatching, template: ChatTemplate, request: dict[str, Any]
) -> ModelContract:
    """Return a contract with a native request as its example, and the model's answer.

    Raises:
        RuntimeError: it refuses the request.
    """
    answer, cause = ChatHandler(contract, engine, template).answer(msgspec.json.encode(request))
    if "text" not in answer:
        raise RuntimeError(f"{contract.name} refuses its own example: {answer}") from cause
    return msgspec.structs.replace(contract, example=Example(request, answer))


def handler_settings(engine: Engine, serving: LanguageServing) -> dict[str, Any]:
    """Return the settings of a worker."""
    slots, context = serving.slots, serving.context
    cache: dict[str, Any] = {"cache_tokens": serving.cache_tokens}
    if engine == "llama.cpp":
        slots = min(slots, OWN_CACHES)
        context, cache = min(context, serving.cache_tokens // slots), {}
    queue = serving.slots + serving.waiting - slots
    settings = {"engine": engine, "slots": slots, "context": context, **cache, "queue": queue}
    drafted = serving.num_speculative_tokens
    return settings | {"num_speculative_tokens": drafted} if drafted else settings


def packing(
    engine: Engine,
    folder: Path,
    template: str,
    description: str,
    serving: LanguageServing,
    defaults: Defaults = NO_DEFAULTS,
) -> Callable[[ModelContract], bytes]:
    """Return a function that packs an engine's files with a complete contract.

    Args:
        folder: as ``engines.prepare`` leaves it; it is read now.
        defaults: of its makers, for what a request leaves out.
    """
    files = {str(path.relative_to(folder)): path.read_bytes() for path in engines.files(engine, folder)}
    files[f"{ASSETS}/{TEMPLATE}"] = template.encode()
    if defaults != NO_DEFAULTS:
        files[f"{ASSETS}/{GENERATION}"] = msgspec.json.encode(defaults)
    config = _config(serving, handler_settings(engine, serving))

    def pack(contract: ModelContract) -> bytes:
        packages = [engines.PACKAGES[engine], engines.GRAMMAR]
        return contents.pack(contract, contents.CHAT, description, config, files, packages)

    return pack


def _config(serving: LanguageServing, handler: Mapping[str, Any]) -> dict[str, Any]:
    """Return TorchServe's settings for the model, and ours under ``handler`` and ``autoscaling``."""
    config = {
        "minWorkers": 1,  # its slots share the cores and one cache
        "maxWorkers": 1,
        "continuousBatching": True,
        "batchSize": serving.slots + serving.waiting + serving.spare,
        "maxBatchDelay": 1,  # ms; with 0 one request joins at a step
        "jobQueueSize": serving.queue,
        "responseTimeout": serving.response_timeout,
        "handler": dict(handler),
    }
    return with_autoscaling(config, serving.autoscaling)
