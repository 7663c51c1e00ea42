"""Calls by gRPC, of which TorchServe has some: each gets an answer, or is told that there is none, and no worker ends.

That no worker was killed or restarted is checked once, when the session's server stops.
"""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import Server

grpc: Any = importlib.import_module("grpc")  # it has no types
SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
OIP = "/org.pytorch.serve.grpc.openinference.GRPCInferenceService/"
STREAM = f"{SERVICE}StreamPredictions"
ANSWER = b'{"prediction":'


def field(number: int, value: bytes) -> bytes:
    """A field of protobuf's wire format with a length, which is below 128."""
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


def predict(model: bytes, **inputs: bytes) -> bytes:
    """A ``PredictionsRequest``."""
    entries = [field(3, field(1, name.encode()) + field(2, value)) for name, value in inputs.items()]
    return field(1, model) + b"".join(entries)


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{server.settings.grpc_inference_port}") as channel:
        yield channel


def one(channel: Any, method: str, message: bytes) -> bytes:
    answer: bytes = channel.unary_unary(method)(message, timeout=30)
    return answer


def stream(channel: Any, message: bytes) -> list[bytes]:
    return list(channel.unary_stream(STREAM)(message, timeout=30))


@pytest.mark.parametrize("name", ["body", "data"])
def test_predictions_and_streams_of_them_are_answered(channel: Any, name: str) -> None:
    asked = predict(b"linear", **{name: b'{"x": 6}'})
    answer = one(channel, f"{SERVICE}Predictions", asked)
    assert ANSWER in answer
    for _ in range(3):
        assert stream(channel, asked) == [answer]


@pytest.mark.parametrize("inputs", [{"body": b"{"}, {"body": b""}, {}, {"a": b"1", "b": b"2"}])
def test_what_cannot_be_answered_gets_its_error(channel: Any, inputs: dict[str, bytes]) -> None:
    asked = predict(b"linear", **inputs)
    (answer,) = stream(channel, asked)
    assert b'{"error":' in answer
    assert b'{"error":' in one(channel, f"{SERVICE}Predictions", asked)


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelInfer"])
def test_the_open_inference_protocol_is_unimplemented(channel: Any, method: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        one(channel, OIP + method, b"")
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_stream_of_requests_is_an_error_and_harms_nobody(channel: Any) -> None:
    call = channel.stream_stream(f"{SERVICE}StreamPredictions2")
    with pytest.raises(grpc.RpcError):
        list(call(iter([predict(b"linear", body=b'{"x": 6}') + field(4, b"a")]), timeout=30))
    assert ANSWER in one(channel, f"{SERVICE}Predictions", predict(b"linear", body=b'{"x": 6}'))
