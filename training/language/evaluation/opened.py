"""A registered version of a language model, opened in this process as its worker opens it."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from handlers.contract import ModelContract
from handlers.entry_points.chat import ChatService
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.template import FILE, ChatTemplate
from serving import archive
from serving.registry import ArchiveError, Registry
from training.data import DataError
from training.language import engines
from training.language.evaluation.text_models import EngineTextModel


@dataclass(frozen=True)
class OpenedVersion:
    """A version whose engine has nothing else to do."""

    contract: ModelContract
    engine: ContinuousBatching
    template: ChatTemplate

    @property
    def name(self) -> str:
        """Name and number, for people."""
        return f"{self.contract.name} {self.contract.version}"

    @property
    def model(self) -> EngineTextModel:
        """The version, to be measured."""
        return EngineTextModel(self.engine, self.template)


@contextlib.contextmanager
def open_version(registry: Registry, name: str, number: str) -> Iterator[OpenedVersion]:
    """Open a version until the context ends.

    Raises:
        ArchiveError: there is no such version, or its archive is missing, altered or incomplete.
        DataError: it is no language model, or its engine cannot be used here.
    """
    versions = registry.models().get(name, {})
    if number not in versions:
        raise ArchiveError(f"{name} {number} is not registered; there are {', '.join(versions) or 'none'}")
    path, contract = registry.verify(versions[number]), registry.contract(versions[number])
    if contract.task != "generation":
        raise DataError(f"{name} is no language model: `marloop report {name}` measures it")
    with tempfile.TemporaryDirectory() as folder:
        archive.unpack(path, Path(folder))
        try:
            settings = archive.read_config(path)["handler"]
            with engines.usable(settings["engine"]):
                _, engine = ChatService().load_engine(Path(folder), settings)
            template = ChatTemplate((Path(folder) / archive.ASSETS / FILE).read_text("utf-8"), engine.tokenize)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ArchiveError(f"the archive of {name} {number} cannot be opened: {error}") from error
        try:
            yield OpenedVersion(contract, engine, template)
        finally:
            engine.close()
