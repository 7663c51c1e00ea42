"""The formats of files that can be imported."""

from pathlib import Path

from training.bring import onnx_file
from training.bring.graph import BringError, Brought

KNOWN = "an .onnx file, or a folder with one"


def read(path: Path) -> Brought:
    """Read a model from a file or a folder.

    Raises:
        BringError: there is none, or it is of a format that is not known.
    """
    if not path.exists():
        raise BringError(f"{path} is not there")
    if path.is_dir() or path.suffix == ".onnx":
        return onnx_file.read(path)
    raise BringError(f"{path}: files that end with {path.suffix or 'no suffix'} cannot be imported; {KNOWN} can")
