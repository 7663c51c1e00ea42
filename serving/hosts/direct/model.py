"""One version of a model in a worker: opened from its archive, checked by its example, fed with batches.

Only the data of an archive is used: graph, contract, assets and settings. Its handlers are those of this installation.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from handlers.batch import Observer
from handlers.contract import ModelContract
from handlers.engine.isolation import is_isolated
from handlers.entry_points.foreign import ForeignService
from handlers.entry_points.image import ImageService
from handlers.entry_points.tabular import TabularService
from handlers.entry_points.text import TextService
from handlers.service import Service
from serving.hosts.direct.batches import Batches

SERVICES: dict[str, type[Service]] = {
    "tabular": TabularService,
    "image": ImageService,
    "text": TextService,
    "foreign": ForeignService,
}
LONGEST = 10.0  # s that a request waits for its turn, where its model's archive says nothing else


def after_answers(loop: asyncio.AbstractEventLoop, show: Callable[[], None]) -> None:
    """Call a function once the answers of a batch that runs in the event loop are sent; in another thread at once."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        show()
    else:
        loop.call_soon(loop.call_soon, show)  # by then the callbacks of the answers have run


class Model:
    """A version that answers.

    Args:
        folder: with the archive's content.
        entry_point: named in its manifest.
        config: its ``model-config.yaml``.
        observers: get each batch beside those of every worker.

    Attributes:
        patience: s that a request may wait for its turn.

    Raises:
        ValueError: its contract or a setting is wrong.
        RuntimeError: it answers its example otherwise than training did.
    """

    def __init__(
        self,
        folder: Path,
        entry_point: str,
        config: Mapping[str, Any],
        loop: asyncio.AbstractEventLoop,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._service = SERVICES[entry_point]()
        self._service.initialize(
            SimpleNamespace(system_properties={"model_dir": str(folder)}, model_yaml_config=config, model_name=None)
        )
        handler = self._service.handler
        handler.observers.add(*observers)
        handler.observers.schedule = partial(after_answers, loop)
        self.contract: ModelContract = handler.contract
        self.instruments = self._service.instruments
        self.patience = min(float(config.get("responseTimeout") or LONGEST), LONGEST)
        # Nobody knows how long a handler from elsewhere takes, or a process that starts again: never in the event loop.
        apart = self.contract.task == "opaque" or is_isolated(config.get("handler") or {})
        self.batches = Batches(handler.handle, loop, inline=not apart)

    @property
    def idle(self) -> bool:
        """Whether every request was answered."""
        return self.batches.idle

    def close(self) -> None:
        """Stop its thread, the sending of its events, and the process of a handler from elsewhere."""
        self.batches.close()
        self._service.close()
        if self._service.capture:
            self._service.capture.stop(1.0)
