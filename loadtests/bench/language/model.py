"""The language model under test: the champion's archive, unpacked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.contract import ModelContract
from handlers.language.decoders.openvino import MODEL as OPENVINO
from serving import archive
from serving.archive import WEIGHTS
from serving.registry import Registry, Version
from training.language.evaluation.champion import published_weights
from training.language.gguf_file import read_gguf, write_gguf


@dataclass(frozen=True)
class Model:
    """A champion.

    Attributes:
        directory: folder of its archive's content.
        archive: file of the archive.
        version: entry of the registry.
        weights: GGUF file with the weights, which peers take; an archive for OpenVINO does not hold it.
    """

    directory: Path
    archive: Path
    version: Version
    contract: ModelContract
    weights: Path

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


def unpack(registry: Registry, name: str, directory: Path, cache: Path) -> Model:
    """Unpack a model's champion, and write the GGUF file of its weights where its archive has none.

    Args:
        directory: a new folder.
        cache: folder of published weights.

    Raises:
        ArchiveError: the model has no champion, or its archive is missing or altered.
        DataError: its published weights cannot be had.
        ValueError: the model is no language model, or its weights can be read by no peer.
    """
    version = registry.champion(name).version
    path = registry.verify(version)
    names = archive.names(path)
    if WEIGHTS not in names and not any(Path(member).name == OPENVINO for member in names):
        raise ValueError(f"{path} holds neither {WEIGHTS} nor {OPENVINO}: {name} is no language model")
    content = directory / "archive"
    archive.unpack(path, content)
    contract = archive.read_contract(content)
    weights = content / WEIGHTS
    if not weights.is_file():
        weights = directory / WEIGHTS
        _write_again(contract, weights, cache)
    return Model(content, path, version, contract, weights)


def _write_again(contract: ModelContract, target: Path, cache: Path) -> None:
    """Write the weights of a version as its training wrote them before it converted them."""
    source, quantization = published_weights(contract, cache), contract.lineage.hyperparameters.get("quantization")
    if source is None or not isinstance(quantization, str):
        raise ValueError(f"{contract.name} {contract.version} is not of its recipe's weights: no peer can read it")
    write_gguf(source, *read_gguf(source), target, quantization)
