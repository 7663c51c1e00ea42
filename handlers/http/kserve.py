"""The routes of KServe v1 and of the Open Inference Protocol (v2): which a request came by, and what their GETs answer.

A URL that names a protocol decides it. Of its own routes ``/v1/models/{model}:predict`` and
``/v2/models/{model}/infer`` TorchServe says by itself only that it was one of the two, as ours has it
(``serving/hosts/torchserve/kserve_routes.py``) which, and it answers no GET there. Behind a model's version it hands
on the rest of the path: with the base URL ``/predictions/{model}/{version}`` a client has the whole of either protocol.
"""

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any

import msgspec

from handlers.contract import ModelContract, TensorSpec
from handlers.message import JSON, InputError, Response

V1, V2 = "v1", "v2"
EITHER = "v1 or v2"
PATH = "url_path"  # a header: the URL behind the model's version, or the whole of it, without the first slash
EXPLAIN = "explain"  # a header of TorchServe's: whether to explain, or, where not, the protocol of the route
SERVER = {"name": "marloop", "version": "1", "extensions": ["binary_tensor_data", "classification"]}
_MODEL = re.compile(
    r"(?P<protocol>v[12])/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[^/:]+))?(?P<end>:predict|/infer|/ready|)"
)
_ENDS = {V1: (":predict", ""), V2: ("/infer", "/ready", "")}
_OF_THE_SERVER: dict[str, Any] = {
    "v2": SERVER,
    "v2/health/live": {"live": True},
    "v2/health/ready": {"ready": True},
}


def route(headers: Mapping[str, str]) -> str:
    """The protocol that the URL of a request names: ``V1``, ``V2`` or ``EITHER`` of the two; empty if it names none."""
    path, told = headers.get(PATH), headers.get(EXPLAIN)
    if told in (V1, V2):
        return told
    if path is None:
        return "" if told is None else EITHER
    if not path:
        return ""
    found = _model(path)
    if found:
        return found["protocol"]
    return path[:2] if path in _OF_THE_SERVER or path == "v1/models" else ""


def answer(contract: ModelContract, path: str, names: Container[str] = ()) -> Response | None:
    """Answer what the protocols' GETs ask; None for a prediction, and for a path that is of neither protocol.

    Args:
        contract: of the model.
        path: as the header ``PATH`` has it; the method is not known.
        names: by which the model is served beside its own.

    Raises:
        InputError: there is no such model or version here.
    """
    if path in _OF_THE_SERVER:
        return _json(_OF_THE_SERVER[path])
    if path == "v1/models":
        return _json({"models": [contract.name]})
    found = _model(path)
    if not found:
        return None
    name, version = found["name"], found["version"]
    if name != contract.name and name not in names:
        raise InputError("not_found", f"there is no model {name!r} here", "url", contract.name)
    if version not in (None, contract.version):
        raise InputError("not_found", f"there is no version {version!r} of {name} here", "url", contract.version)
    match found.group("protocol", "end"):
        case ("v1", ":predict") | ("v2", "/infer"):
            return None
        case ("v2", ""):
            return _json(model_metadata(contract))
    return _json({"name": name, "ready": True})


def _model(path: str) -> re.Match[str] | None:
    found = _MODEL.fullmatch(path)
    return found if found and found["end"] in _ENDS[found["protocol"]] else None


def model_metadata(contract: ModelContract) -> dict[str, Any]:
    """The "Model Metadata Response JSON Object" of the Open Inference Protocol."""
    return {
        "name": contract.name,
        "versions": [contract.version],
        "platform": "marloop",
        "inputs": _tensors(contract.inputs),
        "outputs": _tensors(contract.outputs),
    }


def _tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": spec.shape} for spec in specs]


def _json(value: Any) -> Response:
    return Response(200, msgspec.json.encode(value), JSON)
