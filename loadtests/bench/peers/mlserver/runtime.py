"""MLServer's runtime for the model, as its documentation's custom runtimes are written: v2 tensors in and out."""

from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput
from served_model import Model


class OnnxRuntime(MLModel):
    """The runtime of one model."""

    async def load(self) -> bool:
        """Load the model; each worker does."""
        self._model = Model(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer the rows of a batch."""
        columns = {tensor.name: self._column(tensor) for tensor in payload.inputs}
        if len(self._model.contract["inputs"]) == 1:
            columns = {"inputs": next(iter(columns.values()))}
        (rows,) = {len(column) for column in columns.values()}
        try:
            answers = self._model.predict([{n: column[i] for n, column in columns.items()} for i in range(rows)])
        except KeyError as error:
            raise InferenceError(f"unknown category or missing input {error}") from error
        if self._model.contract["labels"]:
            outputs = [
                StringCodec.encode_output("label", [answer["label"] for answer in answers]),
                NumpyCodec.encode_output("probability", _vector([answer["probability"] for answer in answers])),
            ]
        else:
            outputs = [NumpyCodec.encode_output("prediction", _vector(answers))]
        return InferenceResponse(model_name=self.name, outputs=outputs)

    def _column(self, tensor: RequestInput) -> list[object]:
        if tensor.datatype == "BYTES":
            return StringCodec.decode_input(tensor)
        return list(NumpyCodec.decode_input(tensor))


def _vector(values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)
