"""A model's folder of MLflow: the file of a flavour that can be imported, with the names of its signature."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import yaml

from training.bring.graph import BringError, Brought

FILE = "MLmodel"
# Flavours, best first, each with the key of its entry that names the file.
FLAVOURS = {
    "onnx": "data",
    "xgboost": "data",
    "lightgbm": "data",
    "catboost": "data",
    "sklearn": "pickled_model",
    "pytorch": "model_data",
}
ESTIMATORS = (".skops", ".pkl", ".pickle", ".joblib")
KINDS = {"string": "O", "integer": "i", "long": "i"}  # of NumPy, by the signature's types; others are numbers of FP32


class _Column(msgspec.Struct):
    name: str = ""
    type: str = ""


class _Signature(msgspec.Struct):
    inputs: str = "[]"


class _ExampleInfo(msgspec.Struct):
    artifact_path: str = ""


class _Entry(msgspec.Struct):
    flavors: dict[str, dict[str, Any]]
    signature: _Signature | None = None
    saved_input_example_info: _ExampleInfo | None = None


@dataclass(frozen=True)
class MlflowModel:
    """What a folder says.

    Attributes:
        flavour: that can be imported.
        file: of it.
        columns: kinds of the named inputs, as NumPy has them; empty where they have no names.
        example: a row of JSON; empty where there is none.
    """

    flavour: str
    file: Path
    columns: Mapping[str, str]
    example: bytes

    def named(self, model: Brought, folder: Path) -> Brought:
        """Return the model with the folder's name, and the signature's names for the columns of a matrix."""
        kind = f"{model.kind}, of MLflow's {self.flavour}"
        is_matrix = len(model.inputs) == 1 and [len(self.columns)] == list(model.inputs[0].sizes[1:])
        columns = tuple(self.columns) if is_matrix and not model.columns else model.columns
        return replace(model, file=folder.name, kind=kind, columns=columns, example=self.example)


def is_folder(path: Path) -> bool:
    """Tell whether MLflow wrote a folder."""
    return (path / FILE).is_file()


def read(path: Path) -> MlflowModel:
    """Read what a folder says of its model.

    Raises:
        BringError: it cannot be read, has no flavour that can be imported, or its file is not there.
    """
    place = path / FILE
    try:
        entry = msgspec.convert(yaml.safe_load(place.read_bytes()), _Entry)
        inputs = msgspec.json.decode(entry.signature.inputs if entry.signature else "[]", type=list[_Column])
    except (OSError, yaml.YAMLError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BringError(f"{place} is none of MLflow: {str(error).splitlines()[0]}") from error
    flavour = next((name for name in FLAVOURS if name in entry.flavors), "")
    if not flavour:
        raise BringError(
            f"{path} has the flavours {', '.join(entry.flavors) or 'none'}; {', '.join(FLAVOURS)} can be imported. "
            "python_function alone is code: serve what it calls"
        )
    columns = {column.name: KINDS.get(column.type, "f") for column in inputs if column.name}
    info = entry.saved_input_example_info
    example = _example(path / info.artifact_path) if info and info.artifact_path == "input_example.json" else b""
    return MlflowModel(flavour, _file(path, flavour, entry.flavors[flavour]), columns, example)


def _example(place: Path) -> bytes:
    """Return the first row: an object by columns of a data frame, or the first of an array or of several."""
    try:
        value = msgspec.json.decode(place.read_bytes())
        if isinstance(value, dict) and value.keys() == {"columns", "data"}:
            value = dict(zip(value["columns"], value["data"][0], strict=True))
        else:
            value = {name: rows[0] for name, rows in value.items()} if isinstance(value, dict) else value[0]
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, ValueError):
        return b""  # of another form: a row is made up, and marked so
    return msgspec.json.encode(value)


def _file(path: Path, flavour: str, entry: Mapping[str, Any]) -> Path:
    name = entry.get(FLAVOURS[flavour])
    file = path / str(name)
    if not isinstance(name, str) or not file.resolve().is_relative_to(path.resolve()):
        raise BringError(f"{path / FILE}: {FLAVOURS[flavour]} of {flavour} must be a file of the folder, not {name!r}")
    if flavour == "pytorch":
        file = file / "model.pt2"
        if not file.exists() and file.with_suffix(".pth").exists():
            raise BringError(
                f"{path} holds a pickled module of PyTorch: log it with serialization_format='pt2', or import its "
                "state_dict with --module"
            )
    if not file.exists():
        raise BringError(f"{path}: {file.relative_to(path)}, which {FILE} names, is not there")
    return file
