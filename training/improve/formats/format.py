"""The interface of a format. Adding one is a class and a line in ``training.improve.formats.exporting``."""

import contextlib
import importlib.util
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx
import torch

from handlers.contract import Array, ModelContract
from handlers.engine import Engine
from serving.archive import ONNX, PROGRAM
from training.data import install
from training.packaging.export import to_onnx

# The exporters' messages about an operator that they do not know.
OPERATOR = re.compile(
    r"OpOverload\(op='(?P<op>[\w.:]+)', overload='(?P<overload>\w+)'\)"  # torch.onnx
    r"|Lowering not found: (?P<litert>[\w.:]+)"  # litert-torch
    r"|ONNX operations:\s*(?P<openvino>[\w.:]+)"  # OpenVINO
)


class ExportError(Exception):
    """A format cannot be written or run; the message says why and, where something can be done, what."""


@dataclass(frozen=True)
class Source:
    """A champion to export.

    Attributes:
        graphs: folder of the archive's graphs.
        row: one row of every input by name, as long as the longest where its length is free.
    """

    contract: ModelContract
    graphs: Path
    row: Mapping[str, Array]

    def require_program(self, format_name: str) -> Path:
        """Return the file of the archive's program, which has a free batch.

        Raises:
            ExportError: there is none.
        """
        path = self.graphs / PROGRAM
        if not path.exists():
            raise ExportError(
                f"{self.contract.name} was imported as ONNX, and the format {format_name} is made of a program of "
                "torch.export"
            )
        return path

    def onnx_graph(self) -> onnx.ModelProto:
        """Return an ONNX graph: made anew from the program, or the archive's own where it has no program."""
        program = self.graphs / PROGRAM
        return to_onnx(torch.export.load(program), self.contract) if program.exists() else onnx.load(self.graphs / ONNX)


class Format(ABC):
    """A file format and its runtime."""

    name: ClassVar[str]
    files: ClassVar[tuple[str, ...]]  # names that `write_files` writes, the model first
    runtime: ClassVar[str]  # the package that runs it
    extra: ClassVar[str] = ""  # the project's extra that has this package
    batch: ClassVar[str] = "any"  # rows of one call

    @abstractmethod
    def write_files(self, source: Source, folder: Path) -> None:
        """Write the files.

        Raises:
            ExportError: an operator has no counterpart, or a package is missing.
        """

    @abstractmethod
    def open(self, folder: Path, contract: ModelContract) -> Engine:
        """Load the files into their own runtime, on one thread."""

    def require_runtime(self) -> None:
        """Check that the runtime is installed.

        Raises:
            ExportError: the runtime is not installed; says how to install it.
        """
        module = self.runtime.replace("-", "_")
        if importlib.util.find_spec(module) is None:
            raise ExportError(
                f"the format {self.name} runs on {self.runtime}, which is not installed: {install(self.extra)}"
            )


@contextlib.contextmanager
def naming_the_operator(model: str, format_name: str) -> Iterator[None]:
    """Turn an exporter's failure into a line that names the operator at fault.

    Raises:
        ExportError: the block failed.
    """
    try:
        yield
    except ExportError:
        raise
    except Exception as error:
        text = "\n".join(_chain(error))
        if match := OPERATOR.search(text):
            groups = match.groupdict()
            operator = groups["litert"] or groups["openvino"] or f"{groups['op']}.{groups['overload']}"
            why = f"the operator {operator} has no counterpart there"
        else:
            last = str(error).strip().splitlines() or [""]
            why = f"{type(error).__name__}: {last[-1]}"
        raise ExportError(f"{model} cannot be exported to {format_name}: {why}") from error


def _chain(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__
