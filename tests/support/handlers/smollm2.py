"""The weights of SmolLM2-135M-Instruct, where they were fetched."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from handlers.language.decoders.openvino import convert
from serving.settings import ROOT
from training.language.gguf_file import read, write
from training.language.weights import fetch
from training.recipes.chat import recipe

CACHE = Path(os.environ.get("MARLOOP_CACHE", ROOT / ".cache"))


def weights() -> Path:
    """The published file; skips the test where it was not fetched: tests ask no package index."""
    pytest.importorskip("gguf", reason="gguf is not installed")
    if not (CACHE / recipe.weights.file).is_file():
        pytest.skip(f"{recipe.weights.file} is not in {CACHE}: run `python -m training fetch chat`")
    return fetch(recipe.weights, CACHE)


def openvino_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights as OpenVINO reads them, converted once for all processes of pytest-xdist."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "smollm2"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            scratch = tmp_path_factory.mktemp("smollm2")
            convert(quantized(scratch / "model.gguf"), scratch / "openvino")
            (scratch / "openvino").rename(folder)
    return folder


def quantized(target: Path) -> Path:
    """The weights in Q8_0."""
    source = weights()
    write(source, *read(source), target, "Q8_0")
    return target
