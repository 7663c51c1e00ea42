"""An archive needs nothing of this repository: it runs on a stock TorchServe in an environment of its own."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from handlers.contract import ModelContract
from handlers.handler import same_answer
from loadtests.bench.processes import free_ports
from serving.hosts.torchserve.launch import find_java
from tests.support.kept import keep
from tests.support.waiting import wait_until

CONFIG = """
inference_address=http://127.0.0.1:{}
management_address=http://127.0.0.1:{}
metrics_address=http://127.0.0.1:{}
grpc_inference_port={}
grpc_management_port={}
"""


def stock(requirements: list[str]) -> Path:
    """An environment with TorchServe, what it needs to read settings, and these requirements; nothing else is in it."""
    names = ["torchserve==0.12.0", "pyyaml", *requirements]

    def make(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", *names], check=True, timeout=400)

    key = hashlib.sha256("\n".join([sys.version, *names]).encode()).hexdigest()[:16]
    return keep("stock", key, "venv", make)


@pytest.mark.parametrize("models", [("linear", "fashion")])
def test_archives_run_on_a_stock_torchserve_with_only_their_own_requirements(
    store: Path, tmp_path: Path, models: tuple[str, ...]
) -> None:
    archives = [next(store.glob(f"{model}-*.mar")) for model in models]
    lines: set[str] = set()
    contracts = []
    for path in archives:
        with zipfile.ZipFile(path) as archive:
            lines |= set(archive.read("requirements.txt").decode().split())
            contracts.append(ModelContract.from_json(archive.read("contract.json")))
    venv = stock(sorted(lines))

    config = tmp_path / "config.properties"
    ports = free_ports(5)
    config.write_text(CONFIG.format(*ports))
    temporary = tmp_path / "t"
    temporary.mkdir()
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environ |= {
        "JAVA_HOME": str(find_java(environ).parent.parent),
        "TEMP": str(temporary),
        "TMPDIR": str(temporary),
        "PATH": f"{venv / 'bin'}:{environ['PATH']}",
    }
    torchserve = [venv / "bin" / "torchserve"]
    options: list[str | Path] = ["--disable-token-auth", "--ncs", "--ts-config", config, "--model-store", store]
    start: list[str | Path] = [*torchserve, "--start", *options, "--models", *(path.name for path in archives)]
    with (tmp_path / "log").open("wb") as log:
        subprocess.run(start, cwd=tmp_path, env=environ, stdout=log, stderr=log, check=True)
    try:
        for contract in contracts:
            url = f"http://127.0.0.1:{ports[0]}/predictions/{contract.name}"
            wait_until(lambda contract=contract, url=url: _answers(contract, url))  # type: ignore[misc]
        response = httpx.post(url, content=b'{"inputs": NaN}', headers={"Content-Type": "application/json"})
        assert response.json()["error"]["code"] == "not_finite"
    finally:
        subprocess.run([*torchserve, "--stop", "--foreground"], cwd=tmp_path, env=environ, check=True, timeout=90)


def _answers(contract: ModelContract, url: str) -> bool:
    try:
        response = httpx.post(url, json=contract.example.request, timeout=60)
    except httpx.TransportError:
        return False
    return response.status_code == 200 and same_answer(response.json(), contract.example.response)
