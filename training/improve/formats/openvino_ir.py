"""OpenVINO's intermediate representation, for its runtime on Intel and other CPUs: ``.xml`` and ``.bin``."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handlers.contract import Array, ModelContract
from handlers.engine import Engine
from handlers.language.decoders.openvino import NUMERICS, EngineError, compile_model
from training.improve.formats.format import ExportError, Format, Source, naming_the_operator


class OpenVINOEngine:
    """A graph on OpenVINO's CPU plugin, on one thread."""

    def __init__(self, path: Path, contract: ModelContract) -> None:
        _openvino()
        options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY", **NUMERICS}
        self._request = compile_model(str(path), options).create_infer_request()
        self._outputs = contract.graph_outputs

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs of a batch."""
        answer = self._request.infer(dict(tensors), share_inputs=True)
        return {name: answer[name] for name in self._outputs}


class OpenVINO(Format):
    """OpenVINO, from the ONNX graph: the converter of torch programs reports its use to its makers."""

    name = "openvino"
    files = ("model.xml", "model.bin")
    runtime = "openvino"
    extra = "openvino"

    def write_files(self, source: Source, folder: Path) -> None:
        """Write ``model.xml`` and ``model.bin``, the weights as they are and not halved."""
        openvino = _openvino()
        with naming_the_operator(source.contract.name, self.name):
            graph = source.onnx_graph().SerializeToString()
            model = openvino.Core().read_model(graph, b"")
            openvino.save_model(model, str(folder / self.files[0]), compress_to_fp16=False)

    def open(self, folder: Path, contract: ModelContract) -> Engine:
        """Open the model on OpenVINO's CPU plugin."""
        try:
            return OpenVINOEngine(folder / self.files[0], contract)
        except EngineError as error:
            raise ExportError(str(error)) from error


def _openvino() -> Any:
    # Without its telemetry module it cannot report the import to its makers.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
