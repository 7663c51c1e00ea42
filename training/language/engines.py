"""The engines that a language model can be served by, and which of them is installed here."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handlers.entry_points.chat import MODEL
from handlers.language.decoders.decoder import DecodeError, Decoder
from handlers.language.decoders.openvino import EngineError
from training.data import DataError, install
from training.language.recipe import Engine

# Kinds of numbers that an engine computes as they are; None for all. OpenVINO 2026.4 rounds those of Q4_1 and its like
# anew: the perplexity of SmolLM2-135M becomes 16 % higher. Others it does not read.
EXACT: dict[Engine, tuple[str, ...] | None] = {"llama.cpp": None, "openvino": ("F16", "Q8_0", "Q4_0")}
MODULES: dict[Engine, str] = {"llama.cpp": "llama_cpp", "openvino": "openvino_genai"}  # the fastest first
GRAMMAR = "llguidance"  # holds answers to JSON, with either
PACKAGES: dict[Engine, str] = {"llama.cpp": "llama-cpp-python", "openvino": "openvino-genai"}
EXTRAS: dict[Engine, str] = {"llama.cpp": "chat-llama", "openvino": "chat"}


def choose(named: Engine | None) -> Engine:
    """Return the engine ``named``, or with None the fastest that is installed.

    Raises:
        DataError: it is not installed; says how to install it.
    """
    for engine, module in MODULES.items():
        if named in (engine, None) and importlib.util.find_spec(module):
            return engine
    missing = named or "openvino"
    raise DataError(f"the engine {missing} is not installed: {install(EXTRAS[missing])}")


@contextmanager
def usable(engine: Engine) -> Iterator[None]:
    """Turn an engine's failure to load or compute a model into one sentence.

    Raises:
        DataError: the engine cannot be used on this machine; says why.
    """
    try:
        yield
    except (DecodeError, EngineError, ImportError, OSError) as error:
        raise DataError(f"the engine {engine} cannot be used on this machine: {error}") from error


def prepare(engine: Engine, folder: Path) -> None:
    """Make what the engine needs beside ``model.gguf`` in a folder."""
    if engine == "openvino":
        from handlers.language.decoders.openvino import convert

        convert(folder / MODEL, folder / engine)


def files(engine: Engine, folder: Path) -> list[Path]:
    """Return the files that the engine reads."""
    return sorted((folder / engine).iterdir()) if engine == "openvino" else [folder / MODEL]


def decoder(engine: Engine, folder: Path, context: int) -> Decoder:
    """Open a decoder for one sequence of at most ``context`` tokens."""
    if engine == "openvino":
        from handlers.language.decoders.openvino import OpenVinoDecoder

        return OpenVinoDecoder(folder / engine, 1, context)
    from handlers.language.decoders.llama import LlamaDecoder

    return LlamaDecoder(folder / MODEL, 1, context)
