"""The gRPC server on a real port: calls, contents of each kind, errors with HTTP's words, health, overload."""

import asyncio
import contextlib
import importlib
import struct
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from handlers.contract import TensorSpec
from handlers.formats.codec import Codec
from handlers.message import MAX_BODY
from serving.ports import free_ports
from tests.serving.hosts.direct.test_app import V2_BODY, World, nothing
from tests.support.handlers.models import contract

pytest.importorskip("grpc", reason="grpcio is not installed: pip install -e '.[grpc]'")
grpc: Any = importlib.import_module("grpc")
messages: Any = importlib.import_module("serving.hosts.direct.grpc.messages")
server: Any = importlib.import_module("serving.hosts.direct.grpc.service")
Call = Callable[..., Awaitable[Any]]
RAW = struct.pack("<2f", 1, 6)


def converse(talk: Callable[[Call, Any], Awaitable[Any]], world: World | None = None) -> Any:
    """Run what a client does with a call, ``call(name, request=…, **fields)``, and the application of the server."""

    async def run() -> Any:
        own = world or World()
        application = own.application()
        models: Any = SimpleNamespace(table=application._models.table)
        service, (port,) = server.InferenceService(models, lambda: own.faults), free_ports(1)
        async with (
            server.beside_http(nothing, service, "127.0.0.1", port),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):

            async def call(name: str, service: str = server.INFERENCE, **options: Any) -> Any:
                request, response = "HealthCheckRequest", "HealthCheckResponse"
                if service == server.INFERENCE:
                    request, response = f"{name}Request", f"{name}Response"
                message = messages.CLASSES[request](**options.pop("fields", {}))
                to_wire, from_wire = messages.CLASSES[request].SerializeToString, messages.CLASSES[response].FromString
                return await channel.unary_unary(f"/{service}/{name}", to_wire, from_wire)(message, **options)

            call.channel = channel  # type: ignore[attr-defined]
            return await talk(call, application)

    return asyncio.run(run())


def ask(name: str, world: World | None = None, **options: Any) -> Any:
    return converse(lambda call, _: call(name, timeout=10, **options), world)


def refusal(name: str, world: World | None = None, **options: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        ask(name, world, **options)
    return caught.value


def infer(datatype: str = "FP32", shape: tuple[int, ...] = (2,), raw: bytes | None = RAW, **contents: Any) -> Any:
    tensor = {"name": "x", "datatype": datatype, "shape": shape} | ({"contents": contents} if contents else {})
    fields = {"model_name": "line", "inputs": [tensor]}
    return {"fields": fields | ({"raw_input_contents": [raw]} if raw is not None and not contents else {})}


def test_raw_contents_are_answered_raw() -> None:
    options = infer()
    options["fields"] |= {"id": "a", "model_version": "1.3"}
    answer = ask("ModelInfer", **options)
    assert (answer.model_name, answer.id, list(answer.outputs[0].shape)) == ("line", "a", [2])
    assert len(struct.unpack("<2f", answer.raw_output_contents[0])) == 2
    assert not answer.outputs[0].HasField("contents")


@pytest.mark.parametrize(
    ("datatype", "field"),
    [("FP32", "fp32_contents"), ("FP64", "fp64_contents"), ("INT8", "int_contents"), ("INT64", "int64_contents")]
    + [("UINT16", "uint_contents"), ("UINT64", "uint64_contents")],
)
def test_typed_contents_of_any_number_are_answered_typed_as_over_http(datatype: str, field: str) -> None:
    answer = ask("ModelInfer", **infer(datatype, (2,), None, **{field: [1, 6]}))
    body = {"inputs": [V2_BODY["inputs"][0] | {"shape": [2], "data": [1, 6], "datatype": datatype}]}
    over_http = World().ask("POST", "/v2/models/line/infer", json=body).json()
    assert list(answer.outputs[0].contents.fp32_contents) == pytest.approx(over_http["outputs"][0]["data"])
    assert list(answer.raw_output_contents) == []


def test_a_mistake_has_the_words_of_http() -> None:
    body = {"inputs": [V2_BODY["inputs"][0] | {"shape": [1, 2], "data": [1, 6]}]}
    over_http = World().ask("POST", "/v2/models/line/infer", json=body).json()
    error = refusal("ModelInfer", **infer(shape=(1, 2)))
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, over_http["error"])
    assert dict(error.trailing_metadata())["x-request-id"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (infer(raw=None), "x has no data at $.inputs[0].contents.fp32_contents"),
        (infer(raw=RAW[:4]), "x: 4 bytes, 4 sent"),
        (infer("INT8", int_contents=[1, 300]), "x does not fit INT8 at $.inputs[0].contents.int_contents"),
        (infer("BOOL", bool_contents=[True, False]), "x is BOOL at $.inputs[0].datatype; expected: FP32"),
        (infer("FP99"), "x is FP99 at $.inputs[0].datatype; expected: FP32"),
        ({"fields": {"model_name": "line", "raw_input_contents": [RAW]}}, "1 raw contents for 0 inputs"),
    ],
)
def test_contents_that_do_not_fit_are_told(options: Any, words: str) -> None:
    error = refusal("ModelInfer", **options)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in error.details()


def test_outputs_and_parameters_are_heeded() -> None:
    options = infer()
    options["fields"]["outputs"] = [{"name": "z"}]
    assert "unknown output 'z' at $.outputs[0].name" in refusal("ModelInfer", **options).details()
    options["fields"]["outputs"] = [
        {"name": "y", "parameters": [{"key": "classification", "value": {"int64_param": 2}}]}
    ]
    assert "y has no classes" in refusal("ModelInfer", **options).details()


@pytest.mark.parametrize("name", ["ModelInfer", "ModelMetadata"])
def test_an_unknown_model_or_version_is_not_found(name: str) -> None:
    member = "model_name" if name == "ModelInfer" else "name"
    error = refusal(name, fields={member: "lime"})
    assert (error.code(), "there is no model 'lime' here" in error.details()) == (grpc.StatusCode.NOT_FOUND, True)
    version = {member: "line", member.replace("name", "version"): "9.9"}
    assert "expected: 1.2, 1.3" in refusal(name, fields=version).details()


@pytest.mark.parametrize("name", ["ModelInfer", "ModelMetadata"])
def test_a_handler_from_elsewhere_has_no_tensors(name: str) -> None:
    world = World()
    world.make_opaque()
    options: Any = infer() if name == "ModelInfer" else {"fields": {"name": "line"}}
    error = refusal(name, world, **options)
    assert (error.code(), "native route alone" in error.details()) == (grpc.StatusCode.NOT_FOUND, True)


def test_a_language_model_is_asked_elsewhere() -> None:
    world = World()
    world.elsewhere = {"talk": {}}
    assert refusal("ModelInfer", world, fields={"model_name": "talk"}).code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_message_is_as_large_as_a_body_may_be() -> None:
    error = refusal("ModelInfer", **infer(raw=bytes(MAX_BODY + 1)))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    grown = infer("INT64", (MAX_BODY // 8 + 1,), int64_contents=[1] * (MAX_BODY // 8 + 1))
    assert f"at most {MAX_BODY} bytes" in refusal("ModelInfer", **grown).details()


def test_metadata_and_health_are_those_of_http() -> None:
    assert ask("ServerLive").live
    assert ask("ServerReady").ready
    assert ask("ServerMetadata").name == "marloop"
    assert ask("ModelReady", fields={"name": "line", "version": "1.3"}).ready
    assert not ask("ModelReady", fields={"name": "lime"}).ready
    answer = ask("ModelMetadata", fields={"name": "line"})
    assert list(answer.versions) == ["1.2", "1.3"]
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in answer.inputs] == [("x", "FP32", [-1])]


def test_health_tells_of_the_server_and_of_models() -> None:
    world = World()
    world.faults = {"line": "its archive is altered"}
    assert not ask("ServerReady", world).ready
    assert not ask("ModelReady", world, fields={"name": "line"}).ready
    assert ask("Check", service=server.HEALTH).status == server.SERVING
    for name in ("", "line", server.INFERENCE):
        assert ask("Check", world, service=server.HEALTH, fields={"service": name}).status == server.NOT_SERVING
    unknown = refusal("Check", service=server.HEALTH, fields={"service": "lime"})
    assert unknown.code() == grpc.StatusCode.NOT_FOUND


def test_health_is_watched() -> None:
    world = World()

    async def talk(call: Any, _: Any) -> list[int]:
        to_wire = messages.CLASSES["HealthCheckRequest"].SerializeToString
        from_wire = messages.CLASSES["HealthCheckResponse"].FromString
        watching = call.channel.unary_stream(f"/{server.HEALTH}/Watch", to_wire, from_wire)
        seen = []
        with contextlib.suppress(asyncio.CancelledError):
            stream = watching(messages.CLASSES["HealthCheckRequest"](), timeout=20)
            async for answer in stream:
                seen.append(answer.status)
                world.faults = {"line": "altered"}
                if len(seen) == 2:
                    stream.cancel()
        return seen

    assert converse(talk, world) == [server.SERVING, server.NOT_SERVING]


def test_calls_and_requests_of_http_share_batches_and_their_overload() -> None:
    async def talk(call: Call, application: Any) -> Any:
        model = application._models.table.targets["/v2/models/line/infer"].model
        sizes, handle = [], model.batches._handle

        def counted(requests: Any, waited: Any) -> Any:
            sizes.append(len(requests))
            return handle(requests, waited)

        model.batches._handle = counted
        model.batches._busy = True  # a batch runs, and all wait for it
        waiting = [asyncio.ensure_future(call("ModelInfer", timeout=10, **infer())) for _ in range(5)]
        while len(model.batches._waiting) < 5:
            await asyncio.sleep(0.01)
        model.batches._turn()
        await asyncio.gather(*waiting)
        model.batches._pace = 1.0  # s a byte: as if the model were slow
        model.batches._busy, model.batches._weight = True, 1000
        return sizes, await asyncio.gather(call("ModelInfer", timeout=10, **infer()), return_exceptions=True)

    sizes, (error,) = converse(talk)
    assert sizes == [5]
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the requests before this one take" in error.details()
    trailing = dict(error.trailing_metadata())
    assert int(trailing["grpc-retry-pushback-ms"]) == 1000 * int(trailing["retry-after"]) > 0


def test_a_model_never_sees_a_key() -> None:
    class Context:
        def invocation_metadata(self) -> list[tuple[str, str]]:
            return [("Authorization", "Bearer mar_a"), ("x-api-key", "mar_b"), ("x-request-id", "c")]

    headers = importlib.import_module("serving.hosts.direct.grpc.service")._headers(Context())
    assert headers == {"authorization": "-", "x-api-key": "-", "x-request-id": "c"}


def test_an_absent_input_and_an_empty_text_are_missing_where_they_may_be() -> None:
    tensors: Any = importlib.import_module("serving.hosts.direct.grpc.tensors")
    note = TensorSpec("note", "BYTES", nullable=True, default="none")
    model = contract(note, TensorSpec("age", "FP32", nullable=True), name="person")
    tensor = {"name": "note", "datatype": "BYTES", "shape": [2], "contents": {"bytes_contents": [b"", b"quiet"]}}
    message = messages.CLASSES["ModelInferRequest"](model_name="person", inputs=[tensor])
    decoded = Codec(model, 8).decode(tensors.to_request(message, {}, "r-1")).tensors
    assert decoded["note"].tolist() == [None, "quiet"]
    assert np.isnan(decoded["age"]).tolist() == [True, True]
