"""Model stores for tests: archives that hold a contract and nothing else."""

import io
import zipfile
from pathlib import Path

from handlers.contract import Example, ModelContract, TensorSpec
from handlers.contract.model_card import Evaluation, Lineage, Reference
from serving.registry import Registry, State, Version, file_sha256


def contract_of_doubling(name: str = "doubling", version: str = "1.0") -> ModelContract:
    """A model that answers {"x": 6} with 12."""
    return ModelContract(
        name=name,
        version=version,
        task="regression",
        inputs=(TensorSpec("x", "FP32"),),
        outputs=(TensorSpec("y", "FP32"),),
        labels=(),
        example=Example({"x": 6.0}, {"prediction": 12.0}),
        reference=Reference(),
        evaluation=Evaluation(),
        lineage=Lineage(),
    )


def add(registry: Registry, name: str = "doubling", number: str = "1.0", state: State = "champion") -> Path:
    """Register one more version; its archive's path."""
    return add_contract(registry, contract_of_doubling(name, number), state)


def add_contract(registry: Registry, contract: ModelContract, state: State = "champion") -> Path:
    """Register a version with this contract; its archive's path."""
    buffer, name, number = io.BytesIO(), contract.name, contract.version
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("contract.json", contract.to_json())
    with registry.change() as models:
        path = registry.store / f"{name}-{number}.mar"
        path.write_bytes(buffer.getvalue())
        version = Version(path.name, file_sha256(path), state, "2013-02-17T00:00:00+00:00")
        models.setdefault(name, {})[number] = version
    return path


def alter(path: Path) -> None:
    """Change an archive after it was registered."""
    path.write_bytes(path.read_bytes() + b" ")
