"""The span of a call by gRPC, on a real port."""

import asyncio
import importlib
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk, of the extra otel, is not installed")

from opentelemetry.trace import SpanKind, StatusCode

from handlers.message import Request, Response
from serving.ports import free_ports
from tests.serving.hosts.direct.test_app import nothing
from tests.serving.traces.traced import CALLER, PARENT, TRACE, Traced

pytest.importorskip("grpc", reason="grpcio is not installed: pip install -e '.[grpc]'")
grpc: Any = importlib.import_module("grpc")
messages: Any = importlib.import_module("serving.hosts.direct.grpc.messages")
server: Any = importlib.import_module("serving.hosts.direct.grpc.service")
calls: Any = importlib.import_module("serving.traces.grpc")
INFER = "inference.GRPCInferenceService/ModelInfer"
FIELDS: dict[str, Any] = {
    "model_name": "line",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "contents": {"fp32_contents": [1, 6]}}],
}


def ask(traced: Traced, method: str = "ModelInfer", **fields: Any) -> Any:
    """The answer to a call, or the code of its refusal."""

    async def run() -> Any:
        application = traced.application()._application
        models: Any = SimpleNamespace(table=application._models.table)
        service, (port,) = server.InferenceService(models, lambda: {}), free_ports(1)
        interceptors = [calls.CallSpans(traced.tracer, models)]
        async with (
            server.beside_http(nothing, service, "127.0.0.1", port, interceptors),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            to_wire = messages.CLASSES[f"{method}Request"].SerializeToString
            from_wire = messages.CLASSES[f"{method}Response"].FromString
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}", to_wire, from_wire)
            try:
                return await call(
                    messages.CLASSES[f"{method}Request"](**fields), metadata=tuple(PARENT.items()), timeout=30
                )
            except grpc.aio.AioRpcError as error:
                return error.code().name

    return asyncio.run(run())


def test_a_call_is_a_span_below_the_callers_with_its_stages_below(traced: Traced) -> None:
    assert ask(traced, **FIELDS).model_name == "line"
    spans = traced.spans
    assert list(spans) == ["queue", "decode", "predict", "encode", INFER]
    whole = spans[INFER]
    assert whole.parent is not None
    assert (f"{whole.context.trace_id:032x}", f"{whole.parent.span_id:016x}") == (TRACE, CALLER)
    assert (whole.kind, whole.status.status_code) == (SpanKind.SERVER, StatusCode.UNSET)
    assert dict(whole.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": INFER,
        "marloop.model": "line",
        "marloop.version": "1.2",
        "rpc.response.status_code": "OK",
    }
    assert {span.parent.span_id for name, span in spans.items() if name != INFER and span.parent} == {
        whole.context.span_id
    }


def test_a_call_that_is_refused_has_its_code_and_no_error_of_ours(traced: Traced) -> None:
    assert ask(traced, **FIELDS | {"model_name": "nobody"}) == "NOT_FOUND"
    (span,) = traced.finished
    attributes = dict(span.attributes or {})
    assert attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert attributes["marloop.request_id"]
    assert "marloop.model" not in attributes
    assert span.status.status_code == StatusCode.UNSET


def test_a_failure_of_ours_is_an_error(traced: Traced) -> None:
    class Broken:
        def run(self, tensors: Any) -> Any:
            raise RuntimeError("out of order")

    traced.engine = Broken()
    assert ask(traced, **FIELDS) == "INTERNAL"
    span = traced.spans[INFER]
    assert (span.status.status_code, (span.attributes or {})["error.type"]) == (StatusCode.ERROR, "INTERNAL")


def test_a_failure_that_no_code_tells_is_an_error_too(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> tuple[Request, Response]:
        raise LookupError("a bug")

    monkeypatch.setattr(server, "to_request", broken)
    assert ask(traced, **FIELDS) == "UNKNOWN"
    (span,) = traced.finished
    assert (span.status.status_code, (span.attributes or {})["error.type"]) == (StatusCode.ERROR, "LookupError")


def test_metadata_of_a_model_is_a_span_and_health_is_none(traced: Traced) -> None:
    assert ask(traced, "ServerLive").live
    assert ask(traced, "ModelMetadata", name="line", version="1.3").name == "line"
    (span,) = traced.finished
    assert (span.attributes or {})["marloop.model"] == "line"
