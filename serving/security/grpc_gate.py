"""The gate before gRPC: the same keys, in the metadata of a call. grpcio is an extra."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from handlers.message import STATUS
from serving.security.gate import KEY_HEADERS
from serving.security.grants import Keys, Refusal

OPEN = ("/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady")
CHECK = "/grpc.health.v1.Health/Check"
_CODES = {
    "invalid_api_key": grpc.StatusCode.UNAUTHENTICATED,
    "forbidden": grpc.StatusCode.PERMISSION_DENIED,
    "rate_limited": grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class KeyInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets calls with a key for all models pass: a call's model stands in its message, which is not read yet."""

    def __init__(
        self, keys: Keys, refused: Callable[[str, int, str], None] = lambda path, status, reason: None
    ) -> None:
        self._keys, self._refused = keys, refused

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Return the method that answers a call, or one that refuses it."""
        method = await continuation(details)
        if method is None or details.method in OPEN or not self._keys.required:
            return method
        metadata = [(name.lower(), value) for name, value in details.invocation_metadata or ()]
        sent = [value for name, value in metadata if name.encode() in KEY_HEADERS]
        try:
            grant = self._keys.check([value.encode() if isinstance(value, str) else value for value in sent])
            if grant.models is not None:
                raise Refusal(grant.name, "forbidden", "this API key is for some models alone, over HTTP")
        except Refusal as refusal:
            self._refused("/v2/", STATUS[refusal.error.code], refusal.error.code)
            return _refusing(refusal, method, details.method == CHECK)
        return method


def _refusing(refusal: Refusal, method: Any, checks_health: bool) -> Any:
    async def refuse(message: Any, context: Any) -> Any:
        if checks_health and not message.service:  # of the server as a whole, as probes ask it
            return await method.unary_unary(message, context)
        await context.abort(_CODES[refusal.error.code], str(refusal.error))

    async def refuse_stream(message: Any, context: Any) -> Any:
        await context.abort(_CODES[refusal.error.code], str(refusal.error))
        yield

    if method.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            refuse_stream, method.request_deserializer, method.response_serializer
        )
    return grpc.unary_unary_rpc_method_handler(refuse, method.request_deserializer, method.response_serializer)
