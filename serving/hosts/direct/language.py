"""A language model in a process of its own: requests join and leave its batch at every step, and stream their text."""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from handlers.batch import Observer
from handlers.entry_points.chat import ChatService
from serving.archive import ArchiveError
from serving.hosts.streams import Streams


class LanguageModel:
    """A version of a language model.

    Args:
        folder: with the archive's content.
        entry_point: named in its manifest; one that is not ours is code of the archive, which runs here.
        config: its ``model-config.yaml``.
        observers: get each answer beside those of every worker.
    """

    def __init__(
        self, folder: Path, entry_point: str, config: Mapping[str, Any], observers: Sequence[Observer] = ()
    ) -> None:
        service = (ChatService if entry_point == "chat" else _load(folder, entry_point))()
        service.initialize(
            SimpleNamespace(system_properties={"model_dir": str(folder)}, model_yaml_config=config, model_name=None)
        )
        service.handler.observers.add(*observers)
        self.contract = service.handler.contract
        self.instruments = service.instruments
        self.streams = Streams(service.handler.handle, service.handler.idle)

    @property
    def idle(self) -> bool:
        """Whether every request was answered."""
        return self.streams.idle

    def close(self) -> None:
        """Stop its thread."""
        self.streams.close()


def _load(folder: Path, entry_point: str) -> type[ChatService]:
    """Return the service of an archive. Its modules are forgotten again, since another version has the same names.

    Raises:
        ArchiveError: the entry point is missing, or does not have one service.
    """
    sys.path.append(str(folder))
    try:
        spec = importlib.util.spec_from_file_location(f"archive_{entry_point}", folder / f"{entry_point}.py")
        if spec is None or spec.loader is None:
            raise ArchiveError(f"there is no {entry_point}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
        for name, loaded in list(sys.modules.items()):
            if str(getattr(loaded, "__file__", None) or "").startswith(f"{folder}/"):
                del sys.modules[name]
    services = [member for member in vars(module).values() if getattr(member, "__module__", "") == module.__name__]
    if len(services) != 1:
        raise ArchiveError(f"{entry_point}.py must have one service, not {len(services)}")
    service: type[ChatService] = services[0]
    return service
