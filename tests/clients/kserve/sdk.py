"""KServe's own client, in both protocols: what each call gives, or the error as it prints it."""

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

TYPES = {"FP32": "f4", "FP64": "f8", "INT64": "i8"}


async def outcome(call: Awaitable[Any]) -> Any:
    """The result of a call, or what the client's exception says."""
    try:
        result = await call
    except httpx.HTTPStatusError as error:
        return str(error)
    return [output.as_numpy().tolist() for output in result.outputs] if hasattr(result, "outputs") else result


def tensor(values: Any, datatype: str, binary: bool) -> InferInput:
    """The input ``x``."""
    array = np.array(values, TYPES[datatype])
    made = InferInput("x", list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


async def main(url: str, model: str, version: str) -> dict[str, Any]:
    """Ask a model of one input ``x`` and one output ``y``."""
    v1 = InferenceRESTClient(RESTConfig(protocol="v1", retries=0))
    v2 = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    whole = f"{url}/predictions/{model}/{version}"

    async def infer(values: Any, datatype: str, binary: bool, base: str = url, name: str = model) -> Any:
        request = InferRequest(model_name=name, infer_inputs=[tensor(values, datatype, binary)])
        return await outcome(v2.infer(base, request, model_name=model))

    report = {
        f"{datatype} {'binary' if binary else 'json'}": await infer([[1], [6]], datatype, binary)
        for datatype in TYPES
        for binary in (False, True)
    }
    return report | {
        "behind a version": await infer([1, 6], "FP32", True, whole),
        "another model": await infer([1, 6], "FP32", False, name="another"),
        "wrong shape": await infer([[1, 6]], "FP32", False),
        "v1": await outcome(v1.infer(url, {"instances": [{"x": 6}]}, model_name=model)),
        "v1 behind a version": await outcome(v1.infer(whole, {"instances": [{"x": 6}]}, model_name=model)),
        "v1 wrong": await outcome(v1.infer(url, {"instances": [{"x": "6"}]}, model_name=model)),
        "v1 model ready": await outcome(v1.is_model_ready(whole, model)),
        "live": await outcome(v2.is_server_live(whole)),
        "ready": await outcome(v2.is_server_ready(whole)),
        "model ready": await outcome(v2.is_model_ready(whole, model)),
        "another ready": await outcome(v2.is_model_ready(whole, "another")),
        "plain": [
            await outcome(v2.is_server_live(url)),
            await outcome(v2.is_server_ready(url)),
            await outcome(v2.is_model_ready(url, model)),
            await outcome(v1.is_model_ready(url, model)),
        ],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(*sys.argv[1:]))))
