"""The formats of files that can be imported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from training.bring.files import mlflow_folder, onnx_file, zips
from training.bring.graph import BringError, Brought

KNOWN = (
    "an .onnx file, a folder with one, of transformers or of MLflow, .pt2, TorchScript, scikit-learn as .skops or "
    ".joblib, XGBoost as .json or .ubj, LightGBM as .txt, CatBoost as .cbm, .gguf, "
    "and with --module weights as .pt, .pth or .safetensors"
)
ESTIMATORS = (".skops", ".joblib", ".pkl", ".pickle")
BOOSTED = {".json": "xgboost", ".ubj": "xgboost", ".txt": "lightgbm", ".cbm": "catboost"}  # their libraries
WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


@dataclass(frozen=True)
class Reading:
    """What a file needs beside itself to be read.

    Attributes:
        example: a row, whose shapes a module is exported with.
        data: rows, whose columns have the types of an estimator's.
        module: ``package.module:Class`` of a file of weights.
        arguments: of that class.
        trust: whether code in the file may run.
        columns: kinds of an estimator's columns, as NumPy has them; empty where the example or the data tell them.
        pooling: of an encoder of texts that has none of its own.
    """

    example: Path | None = None
    data: Path | None = None
    module: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    trust: bool = False
    pooling: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


def read(path: Path, reading: Reading = Reading()) -> Brought:  # noqa: B008 - it is frozen
    """Read a model from a file or a folder.

    Raises:
        BringError: there is none, or it is of a format that is not known.
    """
    if not path.exists():
        raise BringError(f"{path} is not there")
    if path.is_dir():
        return _read_folder(path, reading)
    zips.check_size(path)
    if path.suffix not in _READERS:
        raise BringError(f"{path}: files that end with {path.suffix or 'no suffix'} cannot be imported; {KNOWN} can")
    return _READERS[path.suffix](path, reading)


def _read_folder(path: Path, reading: Reading) -> Brought:
    if mlflow_folder.is_folder(path):
        return _read_mlflow(path, reading)
    if not any(path.glob("*.onnx")):
        from training.bring.files.huggingface import reading as huggingface  # torch takes seconds to load

        if huggingface.is_folder(path):
            return huggingface.read(path, reading.pooling)
    return onnx_file.read(path)


def _read_mlflow(path: Path, reading: Reading) -> Brought:
    model = mlflow_folder.read(path)
    if model.flavour in BOOSTED.values() and model.file.suffix not in ESTIMATORS:
        return model.named(_read_trees(model.file, model.flavour, reading), path)
    return model.named(read(model.file, replace(reading, columns=model.columns)), path)


def _read_estimator(path: Path, reading: Reading) -> Brought:
    from training.bring.files import sklearn_files  # its packages are an extra's

    return sklearn_files.read(path, reading.example, reading.data, reading.trust, reading.columns)


def _read_trees(path: Path, library: str, reading: Reading) -> Brought:
    from training.bring.files import boosted  # its packages are an extra's

    return boosted.read(path, library, reading.data)


def _read_program(path: Path, reading: Reading) -> Brought:
    from training.bring.files import torch_files  # torch takes seconds to load

    return torch_files.read_program(path, reading.trust)


def _read_weights(path: Path, reading: Reading) -> Brought:
    """Read weights into their module; without one the file must be TorchScript, which has the same suffixes."""
    from training.bring.files import torch_files, torchscript  # torch takes seconds to load

    if reading.module:
        return torch_files.read_module(path, reading.module, reading.arguments, reading.example)
    return torchscript.read(path, reading.example)


# Readers of files by their suffix.
_READERS: Mapping[str, Callable[[Path, Reading], Brought]] = {
    ".onnx": lambda path, reading: onnx_file.read(path),
    ".pt2": _read_program,
    **dict.fromkeys(WEIGHTS, _read_weights),
    **dict.fromkeys(ESTIMATORS, _read_estimator),
    **dict.fromkeys(BOOSTED, lambda path, reading: _read_trees(path, BOOSTED[path.suffix], reading)),
}
