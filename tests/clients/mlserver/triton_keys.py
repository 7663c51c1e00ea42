"""NVIDIA's client over HTTP and gRPC with API keys: what a model answers to each key, or the error as it prints it."""

import json
import sys
from typing import Any

import numpy as np
from tritonclient import grpc, http


def main(http_address: str, grpc_address: str, model: str, *keys: str) -> dict[str, list[Any]]:
    """Ask a model of one input ``x`` and one output ``y`` with each key; an empty one is not sent."""
    clients = {
        "http": (http, http.InferenceServerClient(http_address)),
        "grpc": (grpc, grpc.InferenceServerClient(grpc_address)),
    }
    return {name: [ask(*client, model, key) for key in keys] for name, client in clients.items()}


def ask(protocol: Any, client: Any, model: str, key: str) -> Any:
    """The answer, or the status and the text of the client's exception."""
    values = np.array([1, 6], np.float32)
    tensor = protocol.InferInput("x", values.shape, "FP32")
    tensor.set_data_from_numpy(values)
    try:
        answer = client.infer(model, [tensor], headers={"authorization": f"Bearer {key}"} if key else None)
    except protocol.InferenceServerException as error:
        return str(error)
    return answer.as_numpy("y").tolist()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
