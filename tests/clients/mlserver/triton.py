"""NVIDIA's client of the Open Inference Protocol: what each call gives, or the error as it prints it."""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from tritonclient import http


def outcome(call: Callable[[], Any]) -> Any:
    """The result of a call, or what the client's exception says."""
    try:
        return call()
    except http.InferenceServerException as error:
        return {"status": error.status(), "message": error.message(), "text": str(error)}


def main(url: str, model: str, version: str) -> dict[str, Any]:
    """Ask a model of one input ``x`` and one output ``y``; a base URL with a path has the whole protocol."""
    client = http.InferenceServerClient(url)
    whole = http.InferenceServerClient(f"{url}/predictions/{model}/{version}")

    def infer(values: Any, datatype: str = "FP32", binary: bool = True, by: Any = client, **options: Any) -> Any:
        array = np.array(values, http.triton_to_np_dtype(datatype))
        tensor = http.InferInput("x", array.shape, datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        return outcome(lambda: by.infer(model, [tensor], **options).as_numpy("y").tolist())

    return {
        "binary": infer([1, 6]),
        "json": infer([1, 6], binary=False),
        "column": infer([[1], [6]]),
        "column in json": infer([[1], [6]], binary=False),
        "double": infer([1, 6], "FP64"),
        "integer": infer([1, 6], "INT64", binary=False),
        "options": infer([1, 6], request_id="a", priority=1, timeout=9, sequence_id=3, parameters={"any": 1}),
        "output in json": infer([1, 6], outputs=[http.InferRequestedOutput("y", binary_data=False)]),
        "behind a version": infer([1, 6], by=whole, model_version=version),
        "unknown output": infer([1, 6], outputs=[http.InferRequestedOutput("z")]),
        "classes of a number": infer([1, 6], outputs=[http.InferRequestedOutput("y", class_count=2)]),
        "wrong shape": infer([[1, 6]]),
        "wrong datatype": infer([True, False], "BOOL"),
        "whole": described(whole, model, version),
        "plain": described(client, model, version) | {"version": infer([1, 6], model_version=version)},
    }


def described(client: http.InferenceServerClient, model: str, version: str) -> dict[str, Any]:
    """What a client is told of a server and of a model."""
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready(model),
        "version ready": client.is_model_ready(model, version),
        "another ready": client.is_model_ready("another"),
        "server": outcome(client.get_server_metadata),
        "metadata": outcome(lambda: client.get_model_metadata(model, version)),
        "index": outcome(client.get_model_repository_index),
    }


def classes(url: str, model: str, shape: list[int]) -> Any:
    """The three likeliest classes of a black picture, by the classification extension."""
    tensor = http.InferInput("image", shape, "UINT8")
    tensor.set_data_from_numpy(np.zeros(shape, np.uint8))
    asked = [http.InferRequestedOutput("probabilities", class_count=3)]
    found = http.InferenceServerClient(url).infer(model, [tensor], outputs=asked).as_numpy("probabilities")
    return [[text.decode() for text in row] for row in found.tolist()]


if __name__ == "__main__":
    address, name, number = sys.argv[1:]
    report = main(address, name, number) | {"classes": classes(address, "fashion", [1, 28, 28, 1])}
    sys.stdout.write(json.dumps(report))
