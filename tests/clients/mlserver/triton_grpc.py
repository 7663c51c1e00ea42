"""NVIDIA's client of the Open Inference Protocol over gRPC: what each call gives, or the error as it prints it."""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from tritonclient import grpc


def outcome(call: Callable[[], Any]) -> Any:
    """The result of a call, or what the client's exception says."""
    try:
        return call()
    except grpc.InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}


def main(url: str, model: str, version: str) -> dict[str, Any]:
    """Ask a model of one input ``x`` and one output ``y``, then ``fashion``, then for health and metadata."""
    client = grpc.InferenceServerClient(url)

    def infer(values: Any, name: str = model, **options: Any) -> Any:
        array = np.array(values, np.float32)
        tensor = grpc.InferInput("x", array.shape, "FP32")
        tensor.set_data_from_numpy(array)
        return outcome(lambda: client.infer(name, [tensor], **options).as_numpy("y").tolist())

    picture = grpc.InferInput("image", [1, 28, 28, 1], "UINT8")
    picture.set_data_from_numpy(np.zeros([1, 28, 28, 1], np.uint8))
    top = [grpc.InferRequestedOutput("probabilities", class_count=3)]
    labels = [grpc.InferRequestedOutput("label")]
    classes = client.infer("fashion", [picture], outputs=top).as_numpy("probabilities").tolist()
    label = client.infer("fashion", [picture], outputs=labels).as_numpy("label").tolist()
    options = {"request_id": "a", "priority": 1, "timeout": 9, "sequence_id": 3, "parameters": {"any": 1}}
    return {
        "plain": infer([1, 6]),
        "column": infer([[1], [6]]),
        "version": infer([1, 6], model_version=version),
        "options": infer([1, 6], **options),
        "compressed": infer([1, 6], compression_algorithm="gzip"),
        "wrong shape": infer([[1, 6]]),
        "unknown output": infer([1, 6], outputs=[grpc.InferRequestedOutput("z")]),
        "unknown model": infer([1, 6], name="another"),
        "unknown version": infer([1, 6], model_version="9.9"),
        "classes": [[text.decode() for text in row] for row in classes],
        "label": [text.decode() for text in np.ravel(label)],
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready(model, version),
        "another ready": client.is_model_ready("another"),
        "server": client.get_server_metadata(as_json=True),
        "metadata": client.get_model_metadata(model, as_json=True),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
