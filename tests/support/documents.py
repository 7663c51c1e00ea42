"""The parts of a contract as they stand in ``contract.json``."""

from pathlib import Path
from typing import Any

import msgspec

from handlers.contract import ModelContract
from handlers.contract.model_card import Evaluation, Lineage, Reference

PARTS = {"reference": Reference, "evaluation": Evaluation, "lineage": Lineage}


def document(part: msgspec.Struct) -> dict[str, Any]:
    """A part as readers outside of this repository find it."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(part))
    return plain


def evaluated(metrics: dict[str, Any], **parts: Any) -> Evaluation:
    """An evaluation of these metrics."""
    return msgspec.convert({"metrics": metrics, **parts}, Evaluation)


def replaced(contract: ModelContract, **fields: Any) -> ModelContract:
    """A contract with other fields, its documents as they stand in a file."""
    parts = {name: msgspec.convert(fields[name], kind) for name, kind in PARTS.items() if name in fields}
    return msgspec.structs.replace(contract, **fields | parts)


FORMER = sorted((Path(__file__).parent / "contracts").glob("*.json"))  # ``contract.json`` as former versions wrote it
