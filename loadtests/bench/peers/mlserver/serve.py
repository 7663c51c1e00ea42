"""MLServer with its adaptive batching and two parallel workers. ``serve.py PORT MODEL_DIR``, in a folder of its own."""

import json
import os
import socket
import sys
from pathlib import Path


def free_port() -> int:
    """Return a free port for unused services: gRPC and metrics."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    port, directory = sys.argv[1:]
    settings = {
        "host": "127.0.0.1",
        "http_port": int(port),
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 2,
        "debug": False,
        "gzip_enabled": False,
    }
    model = {
        "name": "model",
        "implementation": "runtime.OnnxRuntime",
        "max_batch_size": 64,
        "max_batch_time": 0.001,
        "parameters": {"uri": directory},
    }
    Path("settings.json").write_text(json.dumps(settings), encoding="utf-8")
    Path("model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    here = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, os.environ["PYTHONPATH"]])}
    mlserver = Path(sys.executable).with_name("mlserver")
    os.execve(mlserver, [str(mlserver), "start", "."], environment)
