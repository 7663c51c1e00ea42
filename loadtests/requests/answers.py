"""Checks of answers: the status alone does not tell whether one is right."""

import math
from typing import Any, TypeGuard

import msgspec

from handlers.contract import ModelContract
from handlers.contract.example import is_right
from handlers.message import error_detail
from loadtests.requests.payloads import Answer, Payload, Refusal


def complaint(contract: ModelContract, payload: Payload, status: int, body: bytes) -> str:
    """Return the fault of an answer, from a small set of texts; empty for a right one."""
    expected = 200 if isinstance(payload.expected, Answer) else payload.expected.status
    if status != expected:
        return f"status {status} instead of {expected}"
    if payload.kind == "example":
        return "" if is_right(contract, body) else "the contract's example has another answer"
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return "the body is no JSON"
    if not isinstance(answer, dict):
        return "the body is no object"
    if isinstance(payload.expected, Refusal):
        code = error_detail(answer).get("code")
        return "" if code == payload.expected.code else f"error code {code} instead of {payload.expected.code}"
    if payload.protocol.startswith("v2"):
        return _tensors(contract, payload.expected, answer)
    single = payload.protocol == "native"
    predictions = [answer.get("prediction")] if single else answer.get("predictions")
    return _rows(contract, payload.expected, predictions)


def _rows(contract: ModelContract, expected: Answer, predictions: Any) -> str:
    if not isinstance(predictions, list) or len(predictions) != expected.rows:
        return "not one prediction a row"
    if contract.has_targets:
        names = {spec.name for spec in contract.outputs}
        right = [
            isinstance(row, dict) and row.keys() == names and all(map(_finite, row.values())) for row in predictions
        ]
        return "" if all(right) else "a prediction lacks a target, or is no finite number"
    if contract.task == "regression":
        return "" if all(map(_finite, predictions)) else "a prediction is no finite number"
    if contract.task in ("generation", "tensors"):
        return "" if all(prediction is not None for prediction in predictions) else "a prediction is empty"
    classes = [ranked for row in predictions for ranked in _ranked(row, expected.top_k)]
    if len(classes) != expected.rows * expected.top_k:
        return "not top_k classes a row"
    return (
        "" if all(_is_class(contract, ranked) for ranked in classes) else "no label of the contract, or no probability"
    )


def _ranked(row: Any, top_k: int) -> list[Any]:
    if not isinstance(row, dict):
        return []
    ranked = row.get("top_k", []) if top_k > 1 else [row]
    return ranked if isinstance(ranked, list) else []


def _is_class(contract: ModelContract, ranked: Any) -> bool:
    if not isinstance(ranked, dict):
        return False
    index, probability = ranked.get("index"), ranked.get("probability")
    if not isinstance(index, int) or not 0 <= index < len(contract.labels) or not _finite(probability):
        return False
    return ranked.get("label") == contract.labels[index] and -1e-6 <= probability <= 1 + 1e-6


def _tensors(contract: ModelContract, expected: Answer, answer: dict[str, Any]) -> str:
    outputs = {output["name"]: output for output in answer.get("outputs", [])}
    if outputs.keys() != {spec.name for spec in contract.outputs}:
        return "not every output of the contract"
    for spec in contract.outputs:
        shape, data = outputs[spec.name]["shape"], outputs[spec.name]["data"]
        if shape[0] != expected.rows or len(data) != math.prod(shape):
            return "an output has another shape than the request's rows"
        if spec.datatype != "BYTES" and not all(map(_finite, data)):
            return "an output is no finite number"
        if spec.name == "label" and contract.labels and not set(data) <= set(contract.labels):
            return "no label of the contract"
    return ""


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
