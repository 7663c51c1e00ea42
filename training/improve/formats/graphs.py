"""The two formats that an archive has itself, as files for other hosts: ONNX and a ``torch.export`` program."""

import shutil
from pathlib import Path

from handlers.contract import ModelContract
from handlers.engine import Engine, OnnxRuntimeEngine, TorchEngine
from training.improve.formats.format import Format, Source, naming_the_operator


class Onnx(Format):
    """ONNX, made anew from the program and passed by the full check of ``onnx.checker``, or as it was imported."""

    name = "onnx"
    files = (OnnxRuntimeEngine.graph,)
    runtime = "onnxruntime"

    def write_files(self, source: Source, folder: Path) -> None:
        """Write ``model.onnx``."""
        with naming_the_operator(source.contract.name, self.name):
            graph = source.onnx_graph()
        (folder / self.files[0]).write_bytes(graph.SerializeToString(deterministic=True))

    def open(self, folder: Path, contract: ModelContract) -> Engine:
        """Open the graph on ONNX Runtime."""
        return OnnxRuntimeEngine(folder, contract, 1)


class TorchProgram(Format):
    """The archive's program as it is; ``torch.export.load`` reads it."""

    name = "torch"
    files = (TorchEngine.graph,)
    runtime = "torch"

    def write_files(self, source: Source, folder: Path) -> None:
        """Copy ``model.pt2``."""
        shutil.copy(source.require_program(self.name), folder / self.files[0])

    def open(self, folder: Path, contract: ModelContract) -> Engine:
        """Open the program on PyTorch; the number of its threads is the whole process's."""
        return TorchEngine(folder, contract, 1)
