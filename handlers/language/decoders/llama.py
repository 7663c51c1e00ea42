"""llama.cpp as the decoder of a language model, through the low-level interface of llama-cpp-python."""

import ctypes
import logging
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handlers.contract import Array
from handlers.language.decoders.decoder import DecodeError, Interrupted, Part
from handlers.language.scheduling.batching import QUEUE, ContinuousBatching

# From 64 tokens of a sequence on, the attention of llama-cpp-python 0.3.36 on a CPU rounds differently (measured). A
# text that is cut into chunks beside others would get other logits than alone, and now and then another answer.
UBATCH = 63  # tokens
# Checks of a thread for the others before it sleeps (GNU's OpenMP). By default it spins for so long that it takes the
# core of a thread that it waits for. With 20,000 a token took 88 ms beside one busy process on two cores, and 8 alone.
# With 1,000 it takes 30 there and 8 alone; with 300 it takes 20, and alone some per cent more (measured).
SPINS, ENOUGH = "GOMP_SPINCOUNT", "1000"
# Instructions that llama.cpp may be compiled for, and their flags in /proc/cpuinfo.
FLAGS = {
    "SSE3": "pni",
    "SSSE3": "ssse3",
    "AVX": "avx",
    "AVX_VNNI": "avx_vnni",
    "AVX2": "avx2",
    "F16C": "f16c",
    "FMA": "fma",
    "BMI2": "bmi2",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8",
}
CPUINFO = Path("/proc/cpuinfo")
ABORTED = 2  # what llama_decode gives after an interruption
PIECE = 256  # bytes: more than a token of a usual vocabulary


def missing(built_for: str, cpuinfo: Path) -> list[str]:
    """Return the instructions that llama.cpp was compiled to use and that this processor lacks.

    Args:
        built_for: output of ``llama_print_system_info``, such as ``CPU : AVX2 = 1 | FMA = 1 | ``.
        cpuinfo: Linux's file of that name; without it no instruction counts as missing.
    """
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    has = {flag for line in text.splitlines() if line.startswith("flags") for flag in line.partition(":")[2].split()}
    return [name for name in re.findall(r"(\w+) = 1", built_for) if has and name in FLAGS and FLAGS[name] not in has]


class LlamaDecoder:
    """A GGUF file in llama.cpp, with a sequence and a stream of the key-value cache for each slot.

    llama.cpp computes one token of each sequence together. More tokens of a sequence take a second pass over the
    weights. So a prompt's chunk is computed by itself: with as many passes, and a sequence less in the first. Together
    all sequences would also attend as far back as the longest of them.

    Args:
        model: the GGUF file.
        slots: sequences.
        context: tokens of each sequence.
        threads: None for one on each core that this process may use.
        batch: most tokens of one ``decode``.
        ubatch: most tokens that are computed together; with more than ``UBATCH`` the logits depend on how a prompt was
            cut, and so on what else runs.
        flash_attention: makes the logits the same to the last bit, whatever shares the batch.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: llama.cpp cannot read the file, the model cannot have so long a context, memory is short, or
            llama.cpp was built for another processor.
    """

    def __init__(
        self,
        model: Path,
        slots: int,
        context: int,
        threads: int | None = None,
        batch: int = 512,
        ubatch: int = UBATCH,
        flash_attention: bool = True,
    ) -> None:
        os.environ.setdefault(SPINS, ENOUGH)  # read when the library is loaded, here
        import llama_cpp.llama_cpp as api

        if not model.is_file():
            raise FileNotFoundError(f"{model} is missing; it should be the model's GGUF file")
        logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)  # otherwise it prints a page about each model
        self.slots = slots
        self.cells, self.block = slots * context, 1
        self.batch = max(batch, slots + 1)
        self.adapters: Sequence[str] = ()  # llama.cpp applies one to all sequences of a batch
        self._api: Any = api
        self._model: Any = None
        self._context: Any = None
        lacking = missing(api.llama_print_system_info().decode(), CPUINFO)
        if lacking:  # otherwise the process would end at the first such instruction
            names = ", ".join(lacking)
            raise ValueError(f"llama.cpp was built for a processor with {names}, which this one has not: build it here")
        api.llama_backend_init()
        self._model = api.llama_model_load_from_file(os.fsencode(model), api.llama_model_default_params())
        if not self._model:
            raise ValueError(f"{model} is no model that llama.cpp can read; its own message stands above")
        trained = api.llama_model_n_ctx_train(self._model)
        if context > trained:
            self.close()
            raise ValueError(f"the context is {context} tokens; {model.name} was trained for {trained} at most")
        self._vocabulary: Any = api.llama_model_get_vocab(self._model)
        self.vocabulary: int = api.llama_vocab_n_tokens(self._vocabulary)
        settings = api.llama_context_default_params()
        settings.n_ctx = slots * context
        settings.n_seq_max = slots
        settings.kv_unified = False  # each sequence attends to its own cells alone
        settings.n_batch = self.batch
        settings.n_ubatch = min(ubatch, self.batch)
        settings.n_outputs_max = slots  # otherwise the buffer has room for the logits of every token of a batch
        settings.n_threads = settings.n_threads_batch = threads or len(os.sched_getaffinity(0))
        settings.flash_attn_type = int(flash_attention)  # LLAMA_FLASH_ATTN_TYPE_DISABLED, _ENABLED
        self._context = api.llama_init_from_model(self._model, settings)
        if not self._context:
            self.close()
            raise ValueError(f"llama.cpp has no memory for {slots} slots of {context} tokens; lower slots or context")
        self.context: int = context  # llama.cpp rounds up
        self._memory: Any = api.llama_get_memory(self._context)
        # llama.cpp asks a function before each operation whether to go on. A function in Python would wait for the
        # interpreter at each; C's strlen reads this flag, "" or "!", and returns the length, 0 or 1.
        self._stop = ctypes.create_string_buffer(2)
        self._asked = ctypes.cast(ctypes.CDLL(None).strlen, api.ggml_abort_callback)
        api.llama_set_abort_callback(self._context, self._asked, self._stop)
        self._batch = _Batch(api, self.batch, slots)

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Split text into tokens; ``special`` for a template, whose control tokens become such."""
        encoded = text.encode()
        room = len(encoded) + 2
        tokens = (ctypes.c_int32 * room)()
        arguments = (self._vocabulary, encoded, len(encoded), tokens, room, False, special)
        count = self._api.llama_tokenize(*arguments)
        if count < 0:
            raise ValueError(f"llama.cpp cannot split this text of {len(encoded)} bytes into tokens")
        return tokens[:count]

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; none of a control token."""
        for size in (PIECE, 65536):
            buffer = ctypes.create_string_buffer(size)
            length: int = self._api.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
        raise ValueError(f"token {token} has more than 65,536 bytes; the vocabulary is damaged")

    def ends(self, token: int) -> bool:
        """Tell whether the token ends the generation."""
        return bool(self._api.llama_vocab_is_eog(self._vocabulary, token))

    def decode(self, parts: Sequence[Part]) -> Array:
        """Add tokens to slots and return the logits, float32 ``(rows, vocabulary)``, valid until the next call.

        Args:
            parts: at most one for a slot, by ascending number of the slot.

        Raises:
            DecodeError: llama.cpp could not compute the logits.
            Interrupted: another thread asked for that.
        """
        self._stop.value = b""
        single = [number for number, part in enumerate(parts) if len(part.tokens) == part.rows == 1]
        longer = [[number] for number in range(len(parts)) if number not in single]
        if not longer:
            return self._compute(parts)
        rows: dict[int, Array] = {}
        for numbers in [single, *longer] if single else longer:
            logits = self._compute([parts[number] for number in numbers]).copy()  # the next pass overwrites them
            ends = np.cumsum([parts[number].rows for number in numbers])
            rows |= dict(zip(numbers, np.split(logits, ends[:-1]), strict=True))
        return np.concatenate([rows[number] for number in range(len(parts))])

    def held(self, slots: Collection[int]) -> int:
        """Return the cells that these slots hold."""
        return sum(self._api.llama_memory_seq_pos_max(self._memory, slot) + 1 for slot in slots)

    def reserve(self, slot: int, start: int, end: int) -> bool:
        """Do nothing: each slot has cells for its whole context."""
        return True

    def interrupt(self) -> None:
        """Let the ``decode`` of another thread end at its next operation."""
        self._stop.value = b"!"

    def _compute(self, parts: Sequence[Part]) -> Array:
        status = self._api.llama_decode(self._context, self._batch.fill(parts))
        if status == ABORTED:
            raise Interrupted("another thread interrupted it")
        if status:
            raise DecodeError(f"llama.cpp could not compute a batch (llama_decode gave {status})")
        rows = sum(part.rows for part in parts)
        if not rows:
            return np.empty((0, self.vocabulary), np.float32)
        return np.ctypeslib.as_array(self._api.llama_get_logits(self._context), (rows, self.vocabulary))

    def truncate(self, slot: int, length: int) -> None:
        """Remove the tokens of a slot from a position on."""
        self._api.llama_memory_seq_rm(self._memory, slot, length, -1)

    def copy(self, source: int, target: int, length: int) -> None:
        """Replace the content of a slot by the first tokens of another; the next ``decode`` copies the whole stream."""
        self._api.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self.truncate(target, length)

    def close(self) -> None:
        """Free all memory."""
        if self._context:
            self._api.llama_free(self._context)
        if self._model:
            self._api.llama_model_free(self._model)
        self._context = self._model = None


class _Batch:
    """The arrays of a ``llama_batch``, made once and filled at each step.

    Args:
        api: the module of llama.cpp's functions.
        size: tokens.
        slots: sequences.
    """

    def __init__(self, api: Any, size: int, slots: int) -> None:
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._wanted = np.zeros(size, np.int8)
        self._sequences = np.zeros(size, np.uintp)  # pointers to the numbers below
        self._one_each = np.ones(size, np.int32)
        self._numbers = np.arange(slots, dtype=np.int32)
        fields = dict(api.llama_batch._fields_)
        self._batch = api.llama_batch(
            token=self._tokens.ctypes.data_as(fields["token"]),
            pos=self._positions.ctypes.data_as(fields["pos"]),
            n_seq_id=self._one_each.ctypes.data_as(fields["n_seq_id"]),
            seq_id=self._sequences.ctypes.data_as(fields["seq_id"]),
            logits=self._wanted.ctypes.data_as(fields["logits"]),
        )

    def fill(self, parts: Sequence[Part]) -> Any:
        """Return the batch of these parts, valid until the next call."""
        start = 0
        for part in parts:
            end = start + len(part.tokens)
            self._tokens[start:end] = part.tokens
            self._positions[start:end] = np.arange(part.position, part.position + len(part.tokens))
            self._sequences[start:end] = self._numbers.ctypes.data + part.slot * self._numbers.itemsize
            self._wanted[start:end] = 0
            self._wanted[end - part.rows : end] = 1
            start = end
        self._batch.n_tokens = start
        return self._batch


def llama_engine(
    model: Path, slots: int, context: int, threads: int | None = None, queue: int = QUEUE
) -> ContinuousBatching:
    """Load a GGUF file for continuous batching.

    Args:
        slots: requests that run at once.
        context: tokens of each request, prompt and answer; the cache has ``slots * context`` cells.
        threads: None for one on each core that this process may use.
        queue: most requests that wait.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: llama.cpp cannot read the file, the model cannot have so long a context, or memory is short.
    """
    decoder = LlamaDecoder(model, slots, context, threads)
    return ContinuousBatching(decoder, queue, lone_chunk=UBATCH, backlog_chunk=2 * UBATCH)
