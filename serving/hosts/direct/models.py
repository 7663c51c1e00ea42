"""The models of a worker, kept as the registry says: a new version answers its example before an old one goes.

A worker notices changes itself. It looks at the registry's file, which is cheap where nothing changed. It loads new
versions in a thread, and then swaps one table for another between two requests. A former version answers the requests
that it has, and is closed then.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from handlers.batch import Observer
from handlers.contract import ModelContract
from handlers.observe.metrics_folder import VARIABLE, hold_lock
from serving import archive
from serving.hosts.direct.model import Model
from serving.hosts.direct.routes import Served, Target, paths_of
from serving.hosts.direct.unpacked import Unpacked, check_served, language_contract
from serving.registry import ArchiveError, Registry, Version, version_of

logger = logging.getLogger(__name__)
DRAIN = 0.05  # s between two looks whether a former version has answered all
LINGER = 5.0  # s for which nobody must have asked it, before the process that some have is ended


@dataclass(frozen=True)
class Table:
    """The served models at a moment; a change makes another table.

    Attributes:
        models: by name, their versions by number.
        defaults: by name, the champion's number.
        targets: by path of a prediction.
        faults: by name, why the champion, or a version beside it, is not served.
        looked: when the registry was read for it, s since the machine's start.
        elsewhere: contracts of the language models' versions by name and number, each champion's first. Each of
            these models is in a process of its own.
    """

    models: Mapping[str, Mapping[str, Served]] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, Target] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    looked: float = 0.0
    elsewhere: Mapping[str, Mapping[str, ModelContract]] = field(default_factory=dict)


class Models:
    """The models that a worker serves.

    Args:
        only: the language model that this process is for; empty for all that are none.
        observers: get the batches of every model.
    """

    def __init__(
        self, registry: Registry, unpacked: Unpacked, only: str = "", observers: Sequence[Observer] = ()
    ) -> None:
        self._registry, self._unpacked, self._only, self._observers = registry, unpacked, only, observers
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._retiring: set[asyncio.Task[None]] = set()
        self._lock: TextIO | None = None
        self.table = Table()

    async def converge(self, beside: Collection[tuple[str, str]] = ()) -> None:
        """Serve the registry's champions and the versions beside them, and nothing else.

        A version that cannot be served is among the faults; its model's former version stays.

        Args:
            beside: names and numbers.

        Raises:
            ArchiveError: the registry is damaged; what is served stays.
        """
        looked, loop = time.monotonic(), asyncio.get_running_loop()
        models: dict[str, dict[str, Served]] = {}
        faults: dict[str, str] = {}
        defaults: dict[str, str] = {}
        targets = self._target_versions(beside)
        elsewhere = {} if self._only else self._elsewhere(targets)
        for (name, number), version in targets.items():
            if name in elsewhere:
                continue
            model = self.table.models.get(name, {}).get(number)
            try:
                if model is None:
                    model = await loop.run_in_executor(self._thread, self._open, version, loop)
            except Exception as error:
                logger.error("%s %s is not served: %s", name, number, error)
                faults[name] = f"{number}: {error}"
                continue
            models.setdefault(name, {})[number] = model
        champions = self._registry.champions()
        for name, (number, _) in champions.items():
            former = "" if name in elsewhere else self.table.defaults.get(name, "")
            if number in models.get(name, {}):
                defaults[name] = number
            elif former:
                defaults[name] = former
                models.setdefault(name, {})[former] = self.table.models[name][former]
        self._swap(Table(models, defaults, targets_of(models, defaults), faults, looked, elsewhere))

    def close(self) -> None:
        """Stop the threads, and close the models."""
        self._thread.shutdown(wait=False)
        for versions in self.table.models.values():
            for model in versions.values():
                model.close()

    def _target_versions(self, beside: Collection[tuple[str, str]]) -> dict[tuple[str, str], Version]:
        versions = {(name, number): version for name, (number, version) in self._registry.champions().items()}
        registered = self._registry.models()
        for name, number in beside:
            try:
                versions[name, number] = version_of(registered, name, number)
            except KeyError:
                continue  # it was removed since
        return {key: version for key, version in versions.items() if self._only in ("", key[0])}

    def _elsewhere(self, targets: Mapping[tuple[str, str], Version]) -> dict[str, dict[str, ModelContract]]:
        """Return the contracts of language models' versions; a model whose archive is damaged stays as it was.

        The first version of a model, its champion if it has one, decides what it is.
        """
        elsewhere: dict[str, dict[str, ModelContract]] = {}
        others: set[str] = set()
        for (name, number), version in targets.items():
            try:
                contract = language_contract(self._registry.store / version.archive)
                contracts = {number: contract} if contract else {}
            except ArchiveError:
                contracts = {**self.table.elsewhere.get(name, {})}
            if contracts and name not in others:
                elsewhere[name] = elsewhere.get(name, {}) | contracts
            elif name not in elsewhere:
                others.add(name)
        return elsewhere

    def _open(self, version: Version, loop: asyncio.AbstractEventLoop) -> Served:
        path = self._registry.verify(version)
        check_served(path)
        folder = self._unpacked.open(path, version.sha256)
        entry_point, config = archive.entry_point(path), archive.read_config(path)
        model: Served
        if self._only:
            from serving.hosts.direct.language import LanguageModel  # the other processes do not need its imports

            model = LanguageModel(folder, entry_point, config, self._observers)
        else:
            model = Model(folder, entry_point, config, loop, self._observers)
        # The service of each model holds a lock that shows that the process lives, and releases it with the model.
        if metrics := os.environ.get(VARIABLE):
            with contextlib.suppress(OSError):
                self._lock = hold_lock(Path(metrics))
        return model

    def _swap(self, table: Table) -> None:
        former, self.table = self.table, table
        served = {id(model) for versions in table.models.values() for model in versions.values()}
        for versions in former.models.values():
            for model in versions.values():
                if id(model) not in served:
                    self._retiring.add(task := asyncio.create_task(_retire(model)))
                    task.add_done_callback(self._retiring.discard)


async def _retire(model: Served) -> None:
    """Close a model once nobody has asked it for a while: a request finds its model before its body is read."""
    asked = time.monotonic()
    while time.monotonic() - asked < LINGER:
        await asyncio.sleep(DRAIN)
        if not model.idle:
            asked = time.monotonic()
    model.close()


def targets_of(models: Mapping[str, Mapping[str, Served]], defaults: Mapping[str, str]) -> dict[str, Target]:
    """Return the target of each path at which a model predicts."""
    return {
        path: target
        for name, versions in models.items()
        for path, target in paths_of(name, versions, defaults.get(name, ""))
    }
