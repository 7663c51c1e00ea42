"""API keys over gRPC: calls without one are refused, probes of the whole server are not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serving.security.grants import Keys
from serving.security.keys import KeyFile

grpc = pytest.importorskip("grpc", reason="grpcio is not installed: pip install -e '.[grpc]'")


@contextlib.asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


def codes(folder: Path, key: str = "", always: bool = False) -> dict[str, str]:
    """The status of each call by its name."""
    from types import SimpleNamespace

    from serving.hosts.direct.grpc.messages import CLASSES
    from serving.hosts.direct.grpc.service import HEALTH, INFERENCE, InferenceService, beside_http
    from serving.hosts.direct.models import Table
    from serving.ports import free_ports
    from serving.security.grpc_gate import KeyInterceptor

    models: Any = SimpleNamespace(table=Table({"line": {}}, {"line": "1.2"}))
    service, port = InferenceService(models, dict), free_ports(1)[0]
    gate = KeyInterceptor(Keys(KeyFile(folder), folder / "board", always=always))
    calls = {
        "live": (f"/{INFERENCE}/ServerLive", "ServerLive", {}),
        "metadata": (f"/{INFERENCE}/ServerMetadata", "ServerMetadata", {}),
        "infer": (f"/{INFERENCE}/ModelInfer", "ModelInfer", {"model_name": "no"}),
        "server": (f"/{HEALTH}/Check", "HealthCheck", {}),
        "model": (f"/{HEALTH}/Check", "HealthCheck", {"service": "line"}),
    }

    async def run() -> dict[str, str]:
        found = {}
        async with (
            beside_http(nothing, service, "127.0.0.1", port, [gate]),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            for name, (path, kind, values) in calls.items():
                request, response = CLASSES[f"{kind}Request"], CLASSES[f"{kind}Response"]
                call = channel.unary_unary(path, request.SerializeToString, response.FromString)
                try:
                    await call(request(**values), metadata=[("authorization", f"Bearer {key}")] if key else [])
                    found[name] = "OK"
                except grpc.aio.AioRpcError as error:
                    found[name] = error.code().name
        return found

    return asyncio.run(run())


def test_a_call_needs_a_key_for_all_models_and_probes_need_none(tmp_path: Path) -> None:
    right = {"live": "OK", "metadata": "OK", "infer": "NOT_FOUND", "server": "OK", "model": "OK"}
    assert codes(tmp_path) == right
    file = KeyFile(tmp_path)
    key, limited = file.add("app"), file.add("limited", ("line",))
    shut = "UNAUTHENTICATED"
    assert codes(tmp_path) == right | {"metadata": shut, "infer": shut, "model": shut}
    assert codes(tmp_path, "mar_no") == right | {"metadata": shut, "infer": shut, "model": shut}
    assert codes(tmp_path, key) == right
    assert codes(tmp_path, limited)["infer"] == "PERMISSION_DENIED"
