"""Rows that are given with a file, as requests of any format."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from handlers.contract import Array, Example, ModelContract, TensorSpec
from handlers.contract.model_card import Evaluation, Lineage, Reference
from handlers.features import as_sent
from handlers.formats.codec import Codec
from handlers.formats.image import ImageCodec
from handlers.formats.pictures import FORMATS
from handlers.message import JSON, NPY, InputError, Request
from training.bring.graph import BringError

KINDS = {".npy": NPY, ".jpg": "image/jpeg", **{f".{kind.rpartition('/')[2]}": kind for kind in FORMATS}}
Tensors = dict[str, Array]


def example_of(contract: ModelContract, path: Path, names: Mapping[str, str]) -> Tensors:
    """Read one row from a request of any format, JSON or ``.npy``; texts, from the lines of a ``.txt``, are all read.

    Args:
        path: for a model of one text it may be the text itself.
        names: the contract's inputs by the graph's own names, which the file may use.

    Raises:
        BringError: the file cannot be read, or is no request for this model.
    """
    if _takes_text(contract) and path.suffix not in (".json", ".npy"):
        return {contract.inputs[0].name: _texts(path)}
    try:
        body = path.read_bytes()
    except OSError as error:
        raise BringError(f"{path} cannot be read: {error.strerror}") from error
    return request_of(contract, body, KINDS.get(path.suffix.lower(), JSON), names, path)


def request_of(contract: ModelContract, body: bytes, kind: str, names: Mapping[str, str], path: Path) -> Tensors:
    """Read one row from a request's body; arguments and errors as of ``example_of``."""
    body = _native(contract, body, names) if kind == JSON else body
    try:
        first = contract.inputs[0]
        codec = ImageCodec if first.picture or (kind.startswith("image/") and first.is_picture) else Codec
        decoded = codec(contract, 1024).decode(Request(body, {"content-type": kind}, id="example"))
    except InputError as error:
        right = f"; it must be {error.expected}" if error.expected else ""
        raise BringError(f"{path}: {error.message} at {error.path}{right}") from error
    return {name: array[:1] for name, array in decoded.tensors.items()}


def _takes_text(contract: ModelContract) -> bool:
    (first, *others) = contract.inputs
    return not others and first.is_text


def _texts(path: Path) -> Array:
    try:
        lines = path.read_text("utf-8-sig").splitlines() if path.suffix == ".txt" else [str(path)]
    except (OSError, UnicodeDecodeError) as error:
        raise BringError(f"{path} cannot be read as texts, one a line: {error}") from error
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise BringError(f"{path} has no text")
    return np.array(texts, object)


def _native(contract: ModelContract, body: bytes, names: Mapping[str, str]) -> bytes:
    """Return a request with the contract's names; one that is no JSON stays as it is, for its error."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    if isinstance(value, dict) and names.keys() & value.keys() and "instances" not in value:
        value = {names.get(name, name): member for name, member in value.items()}
    (first, *others) = contract.inputs
    if isinstance(value, list):
        value = {"inputs": value} if not contract.has_named_rows else value
    elif not contract.has_named_rows and not others and value.keys() == {first.name}:
        value = {"inputs": value[first.name]}
    return msgspec.json.encode(value)


def made_up(specs: Sequence[TensorSpec]) -> Tensors:
    """Return a row of ones, of a picture any pixels; sizes that vary have 8 at most."""
    rows = {}
    for spec in specs:
        sizes = tuple(
            min(8, most) if own == -1 else own for own, most in zip(spec.shape[1:], spec.largest, strict=True)
        )
        value: Any = "text" if spec.datatype == "BYTES" else 1
        if spec.range:
            value = min(max(1, spec.range[0]), spec.range[1])
        rows[spec.name] = np.full((1, *sizes), 0 if spec.categories else value, spec.graph_dtype)
        if spec.picture:
            rows[spec.name] = np.random.default_rng(0).integers(0, 256, (1, *sizes)).astype(spec.dtype)
    return rows


def bare_contract(name: str, specs: Sequence[TensorSpec]) -> ModelContract:
    """Return a contract that decodes requests, and has no outputs of its own."""
    return ModelContract(
        name=name,
        version="",
        task="tensors",
        inputs=tuple(specs),
        outputs=(TensorSpec("output", "FP32"),),
        labels=(),
        example=Example({}, {}),
        reference=Reference(),
        evaluation=Evaluation(),
        lineage=Lineage(),
    )


def native_row(specs: Sequence[TensorSpec], tensors: Mapping[str, Array]) -> dict[str, Any]:
    """Return the first row as a client sends it."""
    return {spec.name: as_sent(spec, tensors[spec.name][:1])[0] for spec in specs}
