"""An archive needs nothing of this repository: it runs on a stock TorchServe in an environment of its own."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
import pytest
from onnx import TensorProto

from handlers.contract import Example, ModelContract
from handlers.contract.example import same_answer
from handlers.engine import OnnxRuntimeEngine
from handlers.handler import ModelHandler
from serving import archive
from serving.hosts.torchserve.launch import find_java
from serving.ports import free_ports
from tests.monitoring.retraining.judging.test_archived import Texts, shares_of_the_mean
from tests.support.chat_archive import register_echo
from tests.support.handlers import wire
from tests.support.kept import keep
from tests.support.training.former import FORMER
from tests.support.waiting import wait_until
from training.packaging.contents import build
from training.recipe import Serving

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


def of_texts(graphs: Path) -> bytes:
    """An archive of a model of texts that learned nothing."""
    from tests.support.handlers import texts

    (graphs / archive.ASSETS).mkdir(parents=True)
    (graphs / archive.ONNX).write_bytes(shares_of_the_mean(texts.REVIEWS, TensorProto.INT64, ["length"]))
    (graphs / archive.PROGRAM).write_bytes(b"unused")
    (graphs / archive.ASSETS / "tokenizer.json").write_bytes(texts.settings())
    handler = ModelHandler(texts.REVIEWS, OnnxRuntimeEngine(graphs, texts.REVIEWS, 1), texts.codec())
    request = {"text": "good film"}
    example = Example(request, wire.ask(handler, wire.request(request)))
    return build(Texts(), msgspec.structs.replace(texts.REVIEWS, example=example), graphs, Serving())


@pytest.fixture
def archives(store: Path, tmp_path: Path) -> list[Path]:
    """One of each kind, with the handlers that this kind runs, and one that the former layout packed."""
    folder = tmp_path / "store"
    folder.mkdir()
    for model in ("linear", "fashion"):
        shutil.copy(next(store.glob(f"{model}-*.mar")), folder)
    if importlib.util.find_spec("tokenizers"):  # of an extra
        (folder / "reviews.mar").write_bytes(of_texts(tmp_path / "graphs"))
    register_echo(folder, "chat", slots=2, room=2, seconds=0)
    names = (archive.CONTRACT, archive.MANIFEST)  # of linear too, which is served beside it
    renamed = {name: archive.read_file(FORMER, name).replace(b'"linear"', b'"former"') for name in names}
    (folder / "former.mar").write_bytes(archive.rewritten(FORMER.read_bytes(), renamed))
    return sorted(folder.glob("*.mar"))


def test_archives_run_on_a_stock_torchserve_with_only_their_own_requirements(
    archives: list[Path], tmp_path: Path
) -> None:
    contracts = [archive.read_contract(path) for path in archives]
    # The former archive wants the same packages, in the versions of its time.
    present = [path for path in archives if path.stem != "former"]
    lines = {line for path in present for line in archive.read_file(path, archive.REQUIREMENTS).decode().split()}
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
    options: list[str | Path] = [
        "--disable-token-auth",
        "--ncs",
        "--ts-config",
        config,
        "--model-store",
        archives[0].parent,
    ]
    start: list[str | Path] = [*torchserve, "--start", *options, "--models", *(path.name for path in archives)]
    with (tmp_path / "log").open("wb") as log:
        subprocess.run(start, cwd=tmp_path, env=environ, stdout=log, stderr=log, check=True)
    try:
        for contract in contracts:
            url = f"http://127.0.0.1:{ports[0]}/predictions/{contract.name}"
            wait_until(lambda contract=contract, url=url: _answers(contract, url))  # type: ignore[misc]
        url = f"http://127.0.0.1:{ports[0]}/predictions/fashion"
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
