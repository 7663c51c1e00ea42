"""The environment of TorchServe and its workers, which run the code of archives: no secret but their own.

A worker sends events to the monitor and needs nothing else from it. Its ``MARLOOP_TOKEN`` is made from the real one and
allows only that. Archives of former versions, which read the same variable, still work.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated

from handlers.observe.settings import Credentials, EnvironmentSettings, says
from serving.settings import Settings

_NAMES = frozenset(
    [
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "LANG", "LANGUAGE", "TZ"),
        *("TMPDIR", "TMP", "TEMP", "VIRTUAL_ENV", "JAVA_HOME", "CAPTURE_URL"),
    ]
)
_FAMILIES = (
    *("MARLOOP_", "LC_", "LD_", "JAVA_", "JDK_", "TS_", "PROMETHEUS_", "PYTHON", "SSL_CERT_", "XDG_", "MALLOC_"),
    *("CUDA_", "NVIDIA_", "NCCL_", "TORCH_", "PYTORCH_", "ORT_", "OV_", "OPENVINO_", "GGML_", "LLAMA_", "TOKENIZERS_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "VECLIB_", "NUMEXPR_"),
)
_SECRET = ("TOKEN", "PASSWORD", "PASSWD", "SECRET", "CREDENTIAL", "_KEY", "DATABASE_URL")
_PUBLIC = frozenset({Settings.settings()["public_key"].variable})  # no secret, whatever its name says


class WorkerVariables(EnvironmentSettings, frozen=True):
    """Variables of the environment that workers have beside a list of harmless ones."""

    worker_env: Annotated[
        str,
        says(
            "Names of further variables that the code of archives needs in a worker's environment, comma between two."
        ),
    ] = ""


# Set anew, or of no use to workers.
_OURS = frozenset({"PYTHONPATH", "PROMETHEUS_MULTIPROC_DIR", *WorkerVariables().to_environment()})


def events_token(credentials: Credentials) -> str:
    """Return the token that may send events and do nothing else; empty where no token is configured."""
    token = credentials.token
    if credentials.events_token:
        return credentials.events_token
    return hmac.new(token.encode(), b"marloop events", hashlib.sha256).hexdigest() if token else ""


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that TorchServe and its workers need."""
    further = {name.strip() for name in WorkerVariables.from_environment(environ).worker_env.split(",")}
    variables = {name: value for name, value in environ.items() if name in further or _is_needed(name)}
    token = events_token(Credentials.from_environment(environ))
    return variables | ({Credentials.settings()["token"].variable: token} if token else {})


def _is_needed(name: str) -> bool:
    if name in _OURS or (name not in _PUBLIC and any(part in name.upper() for part in _SECRET)):
        return False
    return name in _NAMES or name.startswith(_FAMILIES)
