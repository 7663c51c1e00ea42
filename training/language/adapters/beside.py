"""A version with an adapter more or less: another version's archive as it is, with other adapters beside the model."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from handlers.contract import ModelContract
from handlers.contract.model_card import AdapterCard
from handlers.entry_points.chat import ADAPTING, ChatService
from handlers.language.decoders.adapters import (
    FILES,
    FOLDER,
    WEIGHTS,
    check_name,
    rank_of,
    read_adapter,
    write_adapter,
)
from handlers.language.generation import Generate, Sampling, Scored
from handlers.language.scheduling.batching import ContinuousBatching
from serving import archive
from serving.registry import Registry, file_sha256, version_of
from training.champion import check_rewritable
from training.data import DataError
from training.language import engines
from training.language.adapters.learning import Learned, learn
from training.language.evaluation import perplexity
from training.language.recipe import PASSAGE
from training.packaging import contents
from training.packaging.lineage import with_lineage
from training.packaging.registration import Promote, Result, register
from training.report.language import write_language_page

LONGEST = 512  # tokens of the plain text
ROUNDING = 0.05  # relative difference of the perplexity that an engine's arithmetic may make


@dataclass(frozen=True)
class _Base:
    """The version that another one is made from, unpacked.

    Attributes:
        path: of its archive.
        folder: what is in it.
        config: of its workers.
    """

    contract: ModelContract
    path: Path
    folder: Path
    config: Mapping[str, Any]

    def adapter(self, name: str) -> Path:
        """Return the folder of an adapter."""
        return self.folder / FOLDER / name

    @contextlib.contextmanager
    def opened(self) -> Iterator[ContinuousBatching]:
        """Open the engine with the adapters that are there."""
        settings = self.config["handler"]
        with engines.usable(settings["engine"]):
            _, engine = ChatService().load_engine(self.folder, settings)
        try:
            yield engine
        finally:
            engine.close()


def add_adapter(
    registry: Registry,
    model: str,
    name: str,
    source: Path,
    cache: Path,
    promote: Promote = "auto",
    step: Callable[[str], None] = lambda text: None,
    number: str | None = None,
) -> Result:
    """Put an adapter beside a version, as a new version; one of the same name is replaced.

    Args:
        source: a folder that PEFT wrote, or a file of conversations to learn.
        cache: folder of downloaded weights.
        promote: with ``auto`` it replaces the version that it is made from, if that is the champion: without an adapter
            it gives the same answers.
        number: of that version; the champion's where None.

    Raises:
        ArchiveError: there is no champion, or the version's archive is not as registered.
        KeyError: there is no such version.
        DataError: the adapter cannot be learned, or not be served beside it; nothing is registered.
    """
    with _unpacked(registry, model, number) as base:
        try:
            check_name(name)
            learned = None if source.is_dir() else learn(base.contract, source, cache, step)
            _put(source, learned, base.adapter(name))
            with base.opened() as engine:
                step(f"evaluating {model}:{name} on a plain text")
                measured = _measure(engine, name, learned)
            card = AdapterCard(
                sha256=file_sha256(base.adapter(name) / WEIGHTS),
                rank=rank_of(read_adapter(base.adapter(name))),
                perplexity=measured,
                base=base.contract.version,
                instructions=learned.conversations if learned else None,
                tuning=learned.tuning if learned else None,
            )
        except ValueError as error:
            raise DataError(f"{error}; nothing is registered") from error
        return _register(registry, base, {**base.contract.lineage.adapters, name: card}, promote)


def remove_adapter(
    registry: Registry, model: str, name: str, promote: Promote = "auto", number: str | None = None
) -> Result:
    """Register a version that lacks one of another's adapters.

    Args:
        number: of the other; the champion's where None.

    Raises:
        ArchiveError: there is no champion, or the version's archive is not as registered.
        KeyError: there is no such version.
        DataError: it has no such adapter.
    """
    with _unpacked(registry, model, number) as base:
        adapters = dict(base.contract.lineage.adapters)
        if name not in adapters:
            there = ", ".join(adapters) or "none"
            raise DataError(f"{model} {base.contract.version} has no adapter {name!r}; there are {there}")
        del adapters[name]
        shutil.rmtree(base.adapter(name))
        return _register(registry, base, adapters, promote)


@contextlib.contextmanager
def _unpacked(registry: Registry, model: str, number: str | None) -> Iterator[_Base]:
    version = version_of(registry.models(), model, number) if number else registry.champion(model).version
    check_rewritable(registry, version)
    contract, path = registry.contract(version), registry.archive(version)
    if contract.task != "generation":
        raise DataError(f"{model} is no language model, which an adapter is for")
    with tempfile.TemporaryDirectory() as folder:
        archive.unpack(path, Path(folder))
        config = archive.read_config(path)
        engine = config["handler"]["engine"]
        if engine not in ADAPTING:
            fault = f"{model} {contract.version} is served by {engine}, which applies an adapter to all requests"
            raise DataError(f"{fault}: train it for {' or '.join(ADAPTING)} (--preset {ADAPTING[0]})")
        yield _Base(contract, path, Path(folder), config)


def _put(source: Path, learned: Learned | None, folder: Path) -> None:
    """Write an adapter into its folder, in place of one of the same name."""
    if learned is None:
        read_adapter(source)  # before anything is copied
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if learned:
        write_adapter(folder, learned.adapter, rank_of(learned.adapter))
        return
    for file in FILES:
        shutil.copyfile(source / file, folder / file)


def _measure(engine: ContinuousBatching, name: str, learned: Learned | None) -> float:
    """Return the perplexity of a plain text by an adapter.

    Raises:
        DataError: it is no number, or another one than that of the network that has learned.
    """
    tokens = engine.tokenize(PASSAGE.read_text("utf-8"), False)[: min(LONGEST, engine.context - 1)]
    engine.add(Generate(name, tokens, 0, Sampling(temperature=0, logprobs=0), scored=True, adapter=name))
    logprobs: list[float] = []
    while engine.usage.running or engine.usage.waiting:
        for event in engine.step():
            if isinstance(event, Scored):
                logprobs = [token.logprob for token in event.tokens if token.logprob is not None]
    served = float(np.exp(-np.mean(logprobs)))
    if not np.isfinite(served):
        raise DataError(f"the engine computes no finite probabilities with {name}; nothing is registered")
    if learned:
        own = perplexity.by_reference(learned.module, tokens).perplexity
        if abs(served / own - 1) > ROUNDING:
            fault = f"the perplexity of a plain text is {served:.1f} by the engine, and {own:.1f} as it was learned"
            raise DataError(f"with {name} {fault}; nothing is registered")
    return served


def _register(registry: Registry, base: _Base, adapters: Mapping[str, AdapterCard], promote: Promote) -> Result:
    """Register the version with these adapters, and the handlers of today."""
    contract, folder = base.contract, base.folder
    created = datetime.now(UTC).isoformat(timespec="seconds")
    draft = with_lineage(contract, adapters=dict(adapters), packaged_from=contract.version, created=created)
    own = [path for part in (*ADAPTING, archive.ASSETS, FOLDER) for path in sorted((folder / part).rglob("*"))]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in own if path.is_file()}
    packages = [engines.PACKAGES[base.config["handler"]["engine"]], engines.GRAMMAR]

    def pack(whole: ModelContract) -> bytes:
        about = archive.description(base.path)
        return contents.pack(whole, contents.CHAT, about, base.config, files, packages)

    result = register(draft, pack, registry, promote, replaces=contract.version)
    return replace(result, report=write_language_page(result.contract, registry.store))
