"""The language model under test: the champion's archive, unpacked."""

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from handlers.contract import ModelContract
from loadtests.tune.archives import CONFIG
from serving.registry import Registry, Version

WEIGHTS = "model.gguf"


@dataclass(frozen=True)
class Model:
    """A champion.

    Attributes:
        directory: of what its archive holds.
        archive: the file.
        version: as registered.
        contract: of it.
    """

    directory: Path
    archive: Path
    version: Version
    contract: ModelContract

    @property
    def weights(self) -> Path:
        """The GGUF file, which peers take too."""
        return self.directory / WEIGHTS

    def settings(self) -> Mapping[str, Any]:
        """Its ``model-config.yaml``."""
        found: Mapping[str, Any] = yaml.safe_load((self.directory / CONFIG).read_text())
        return found

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
        ArchiveError: the archive is missing or altered.
        ValueError: the model has no champion, or one that is no language model.
    """
    if name not in registry.champions():
        raise ValueError(f"{name} has no champion in {registry.store}: run `make train MODEL={name}`")
    _, version = registry.champions()[name]
    archive = registry.verify(version)
    with zipfile.ZipFile(archive) as file:
        if WEIGHTS not in file.namelist():
            raise ValueError(f"{archive} holds no {WEIGHTS}: {name} is no language model")
        file.extractall(directory)
    contract = ModelContract.from_json((directory / "contract.json").read_bytes())
    return Model(directory, archive, version, contract)
