"""The language model under test: the champion's archive, unpacked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.contract import ModelContract
from serving import archive
from serving.archive import WEIGHTS
from serving.registry import Registry, Version


@dataclass(frozen=True)
class Model:
    """A champion.

    Attributes:
        directory: folder of its archive's content.
        archive: file of the archive.
        version: entry of the registry.
    """

    directory: Path
    archive: Path
    version: Version
    contract: ModelContract

    @property
    def weights(self) -> Path:
        """GGUF file, which peers take too."""
        return self.directory / WEIGHTS

    def settings(self) -> Mapping[str, Any]:
        """Return TorchServe's settings of the model."""
        return archive.read_config(self.directory)

    def store(self, folder: Path) -> Path:
        """Make a model store that holds this model alone."""
        folder.mkdir(parents=True)
        os.symlink(self.archive.resolve(), folder / self.archive.name)
        with Registry(folder).change() as models:
            models[self.contract.name] = {self.contract.version: self.version}
        return folder


def unpack(registry: Registry, name: str, directory: Path) -> Model:
    """Unpack a model's champion.

    Raises:
        ArchiveError: the model has no champion, or its archive is missing or altered.
        ValueError: the model is no language model.
    """
    version = registry.champion(name).version
    path = registry.verify(version)
    if WEIGHTS not in archive.names(path):
        raise ValueError(f"{path} holds no {WEIGHTS}: {name} is no language model")
    archive.unpack(path, directory)
    return Model(directory, path, version, archive.read_contract(directory))
