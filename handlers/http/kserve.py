"""The routes of KServe v1 and of the Open Inference Protocol (v2): the protocol of a request, and answers to GETs.

TorchServe has ``/v1/models/{model}:predict`` and ``/v2/models/{model}/infer``, and answers no GET there. A patched
class (``serving/hosts/torchserve/kserve_routes.py``) tells the two apart. TorchServe hands on the path behind a model's
version. So a client with the base URL ``/predictions/{model}/{version}`` has the whole of either protocol.
"""

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any

import msgspec

from handlers.contract import ModelContract, TensorSpec
from handlers.message import JSON, InputError, Response

V1, V2 = "v1", "v2"
EITHER = "v1 or v2"
PATH = "url_path"  # header: the URL behind the model's version, or the whole URL, without its first slash
EXPLAIN = "explain"  # TorchServe's header: whether to explain, or else the protocol of the route
SERVER = {"name": "marloop", "version": "1", "extensions": ["binary_tensor_data", "classification"]}
_MODEL = re.compile(
    r"(?P<protocol>v[12])/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[^/:]+))?(?P<end>:predict|/infer|/ready|)"
)
_ENDS = {V1: (":predict", ""), V2: ("/infer", "/ready", "")}
_INDEX = "v2/repository/index"  # of Triton's extension for model repositories
_OF_THE_SERVER: dict[str, Any] = {
    "v2": SERVER,
    "v2/health/live": {"live": True},
    "v2/health/ready": {"ready": True},
}


def route(headers: Mapping[str, str]) -> str:
    """Return the protocol that a request's URL names: ``V1``, ``V2`` or ``EITHER``; empty if it names none."""
    path, explain = headers.get(PATH), headers.get(EXPLAIN)
    if explain in (V1, V2):
        return explain
    if path is None:
        return "" if explain is None else EITHER
    if not path:
        return ""
    path_match = _match_model(path)
    if path_match:
        return path_match["protocol"]
    return path[:2] if path in _OF_THE_SERVER or path in ("v1/models", _INDEX) else ""


def answer(contract: ModelContract, path: str, names: Container[str] = ()) -> Response | None:
    """Answer what is no prediction in the protocols; None for a prediction, and for a path of neither protocol.

    Args:
        path: from the header ``PATH``; the host does not hand on the method.
        names: other names by which the model is served.

    Raises:
        InputError: the path names another model or version.
    """
    if path in _OF_THE_SERVER:
        return _json(_OF_THE_SERVER[path])
    if path == "v1/models":
        return _json({"models": [contract.name]})
    if path == _INDEX:
        return _json([{"name": contract.name, "version": contract.version, "state": "READY", "reason": ""}])
    path_match = _match_model(path)
    if not path_match:
        return None
    name, version = path_match["name"], path_match["version"]
    if name != contract.name and name not in names:
        raise InputError("not_found", f"there is no model {name!r} here", "url", contract.name)
    if version not in (None, contract.version):
        raise InputError("not_found", f"there is no version {version!r} of {name} here", "url", contract.version)
    match path_match.group("protocol", "end"):
        case ("v1", ":predict") | ("v2", "/infer"):
            return None
        case ("v2", "") if contract.task == "opaque":
            raise native_only(contract)
        case ("v2", ""):
            return _json(model_metadata(contract))
    return _json({"name": name, "ready": True})


def native_only(contract: ModelContract) -> InputError:
    """Return the error for a route of a protocol whose rows or tensors nobody can tell of this model."""
    fault = f"{contract.name} answers at its native route alone: its handler was written elsewhere, without a contract"
    return InputError("not_found", fault, "url", f"/predictions/{contract.name}")


def _match_model(path: str) -> re.Match[str] | None:
    match = _MODEL.fullmatch(path)
    return match if match and match["end"] in _ENDS[match["protocol"]] else None


def model_metadata(contract: ModelContract) -> dict[str, Any]:
    """Return the "Model Metadata Response JSON Object" of the Open Inference Protocol."""
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
