"""A handler behind TorchServe's own context, loaded as TorchServe does, as a child runs it for ``ForeignHandler``.

TorchServe is archived, so that the parts used here stay as they are.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

OURS = ("PROMETHEUS_MULTIPROC_DIR", "TS_DECODE_INPUT_REQUEST")  # variables that are none of its business
OF_HOSTS = frozenset({"content-length", "transfer-encoding", "connection", "ts_stream_next"})  # headers that hosts set
JSON, TEXT, OCTETS = "application/json", "text/plain; charset=utf-8", "application/octet-stream"
Message = Mapping[str, Any]
Answer = tuple[int, str, dict[str, str], bytes]  # status, content type, further headers, body
Function = Callable[[Any, Any], Any]
GPU = Path("/dev/nvidia0")


def serve(
    folder: str, name: str, about: Mapping[str, Any], batch_size: int
) -> Callable[[Sequence[Message]], list[Answer]]:
    """Load a handler, and return the function that answers batches.

    Args:
        folder: its archive, unpacked.
        about: ``model`` of the manifest.
    """
    for variable in OURS:
        os.environ.pop(variable, None)
    os.chdir(folder)
    sys.path.insert(0, folder)
    from ts.context import RequestProcessor
    from ts.utils.util import PredictionException

    _forget_handlers(Path(folder))
    context = _context(Path(folder), name, about, batch_size)
    handle, initialize = _functions(str(about["handler"]))
    if envelope := about.get("envelope"):
        handle = _only_class(importlib.import_module(f"ts.torch_handler.request_envelope.{envelope}"))(handle).handle
    initialize(context)

    def answer(messages: Sequence[Message]) -> list[Answer]:
        context.request_ids = context.metrics.request_ids = {i: message["id"] for i, message in enumerate(messages)}
        context.request_processor = [RequestProcessor(_headers_of(message)) for message in messages]
        try:
            values = handle([_parts_of(message) for message in messages], context)
        except PredictionException as error:
            return [(error.error_code, TEXT, {}, str(error.message).encode())] * len(messages)
        if not isinstance(values, list) or len(values) != len(messages):
            kind = f"a list of {len(values)}" if isinstance(values, list) else f"a {type(values).__name__}"
            raise TypeError(f"for {len(messages)} requests it returned {kind}; it must be a list with an answer each")
        return [_answer(context, i, value) for i, value in enumerate(values)]

    return answer


def _context(folder: Path, name: str, about: Mapping[str, Any], batch_size: int) -> Any:
    """Return TorchServe's context, as ``ts.service`` makes it; that module would import torch for any handler."""
    import ts
    from ts.context import Context
    from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
    from ts.utils.util import get_yaml_config

    metrics = MetricsCacheYamlImpl(str(Path(ts.__file__).parent / "configs" / "metrics.yaml"))
    metrics.initialize_cache()
    metrics.model_name = name
    manifest = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_bytes())
    config = get_yaml_config(str(folder / about["configFile"])) if about.get("configFile") else {}
    gpu = 0 if GPU.exists() else None  # the first one, which TorchServe would give to its first worker
    return Context(name, str(folder), manifest, batch_size, gpu, ts.__version__, True, metrics, config)


def _functions(handler: str) -> tuple[Function, Callable[[Any], Any]]:
    """Return what answers a batch and what is called before, as ``ts.model_loader`` finds them."""
    file, _, function = handler.partition(":")
    module_name = Path(file).name.removesuffix(".py")
    if Path(f"{module_name}.py").is_file():
        module = importlib.import_module(module_name)
    else:
        module = importlib.import_module(f"ts.torch_handler.{module_name}")
    if entry_point := getattr(module, function or "handle", None):
        return entry_point, lambda context: entry_point(None, context)
    service = _only_class(module)()
    return service.handle, service.initialize


def _only_class(module: Any) -> Any:
    from ts.utils.util import list_classes_from_module

    classes = list_classes_from_module(module)
    if len(classes) != 1:
        names = ", ".join(kind.__name__ for kind in classes) or "none"
        raise TypeError(f"it must have a function handle(data, context) or one class; its classes: {names}")
    return classes[0]


def _forget_handlers(folder: Path) -> None:
    """Let a module or package of the archive be called as this one is."""
    package = __name__.partition(".")[0]
    if (folder / package).exists() or (folder / f"{package}.py").exists():
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]


class _Headers(dict[str, Any]):
    """A request's headers, found in whatever case they are asked for."""

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key, super().get(key.lower(), default))


def _headers_of(message: Message) -> _Headers:
    parts = {name: {"content-type": content_type} for name, content_type, _ in message["parts"]}
    return _Headers(parts | message["headers"])


def _parts_of(message: Message) -> dict[str, Any]:
    """Return what TorchServe hands to a handler: JSON and texts decoded, where that is possible."""
    return {name: _value(content_type, body) for name, content_type, body in message["parts"]}


def _value(content_type: str, body: bytes) -> Any:
    try:
        if content_type == JSON:
            return json.loads(body)
        if content_type.startswith("text"):
            return body.decode()
    except ValueError:
        pass
    return bytearray(body)


def _answer(context: Any, i: int, value: Any) -> Answer:
    content_type, body = _encoded(value)
    headers = {name.lower(): str(text) for name, text in context.get_response_headers(i).items()}
    headers = {name: text for name, text in headers.items() if name not in OF_HOSTS}
    status, _ = context.get_response_status(i)
    return int(status or 200), headers.pop("content-type", content_type), headers, body


def _encoded(value: Any) -> tuple[str, bytes]:
    """Return the bytes that TorchServe makes of an answer, and a content type where the handler sets none."""
    if isinstance(value, bytes | bytearray):
        return OCTETS, bytes(value)
    if isinstance(value, str):
        return TEXT, value.encode()
    if type(value).__module__.partition(".")[0] == "torch":
        import io

        import torch

        buffer = io.BytesIO()
        torch.save(value, buffer)
        return OCTETS, buffer.getvalue()
    return JSON, json.dumps(value, indent=2).encode()
