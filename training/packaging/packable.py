"""The parts of an archive beside its contract and its graphs, and its packing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from handlers.contract import Example, ModelContract
from handlers.engine import load_engine
from handlers.formats.requests import native_request
from handlers.handler import ModelHandler
from handlers.message import JSON, Request
from serving import archive
from serving.registry import Registry
from training.packaging import contents, serving_settings
from training.packaging.deadline import with_deadline
from training.recipe import Recipe, Serving


@dataclass(frozen=True)
class Packable:
    """The parts of an archive that a contract does not say.

    Attributes:
        description: a line about the model.
        entry_point: a key of ``contents.ENTRY_POINTS``.
    """

    name: str
    description: str
    entry_point: str
    serving: Serving

    def packing(self, graphs: Path) -> Callable[[ModelContract], bytes]:
        """Return a function that packs graphs with a complete contract.

        Args:
            graphs: a folder with ``model.onnx``, ``model.pt2`` or both, and maybe a folder ``assets``.
        """

        def pack(contract: ModelContract) -> bytes:
            serving = with_deadline(self.entry_point, contract, graphs, self.serving)
            return contents.build(self, contract, graphs, serving)

        return pack

    def example(self, contract: ModelContract, row: Mapping[str, Any], graphs: Path) -> Example:
        """Return a row as a native request, and the archive's own answer to it.

        Raises:
            RuntimeError: the request is refused.
        """
        request = native_request(contract, row)
        engine = load_engine(self.serving.engine, graphs, contract, 1)
        codec = contents.codec_of(self.entry_point).open(graphs, contract, self.serving.max_rows)
        handler = ModelHandler(contract, engine, codec)
        (response,) = handler.handle([Request(msgspec.json.encode(request), {"content-type": JSON}, id="example")])
        if response.status != 200:
            raise RuntimeError(f"{contract.name}: its own example is refused: {response.body.decode()}")
        return Example(request, msgspec.json.decode(response.body))


def of_recipe(recipe: Recipe[Any], store: Path) -> Packable:
    """Return the parts that a recipe says, with the settings that were chosen for it.

    Raises:
        ValueError: the store's serving settings are damaged.
    """
    serving = serving_settings.serving_of(recipe, store)
    return Packable(recipe.name, recipe.description, recipe.entry_point, serving)


def of_champion(name: str, registry: Registry) -> Packable:
    """Return the parts that a champion's archive has.

    Raises:
        ArchiveError: there is no champion, or its archive cannot be read.
    """
    path = registry.archive(registry.champion(name).version)
    serving = contents.serving_in(archive.read_config(path))
    return Packable(name, archive.description(path), archive.entry_point(path), serving)
