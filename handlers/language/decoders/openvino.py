"""OpenVINO as the decoder of a language model: a wheel, for machines without a compiler."""

import contextlib
import ctypes
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from handlers.contract import Array
from handlers.language.decoders.adapters import Adapter
from handlers.language.decoders.decoder import DecodeError, Interrupted, Part
from handlers.language.decoders.openvino_adapters import INPUT, add_adapters, numbers_of
from handlers.language.decoders.pages import Pages
from handlers.language.scheduling.batching import QUEUE, ContinuousBatching
from handlers.language.scheduling.chunks import Beside

MODEL = "openvino_model.xml"
NO_ADAPTERS: Mapping[str, Adapter] = MappingProxyType({})
BLOCK = 32  # tokens of a block of the cache, which the CPU's kernel prescribes
BESIDE = Beside(4, 1500, 3)  # streams and chunks share a pass over the weights; one of four tokens is quick
# Arithmetic that the plugin would choose by the processor; fixed, so that an answer is the same on each.
NUMERICS: dict[str, Any] = {
    "INFERENCE_PRECISION_HINT": "f32",  # otherwise bfloat16 where the CPU has it (AVX512_BF16, AMX)
    "EXECUTION_MODE_HINT": "ACCURACY",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # otherwise activations are rounded to 8 bits, depending on their neighbours
    # The default, 8 bits, rounds a token by those before it. With 16, last bits that differ between batches of one and
    # of many become differences a hundred times as large. Either way an answer would depend on what else runs.
    "KV_CACHE_PRECISION": "f32",
    "KEY_CACHE_PRECISION": "f32",
    "VALUE_CACHE_PRECISION": "f32",
    "CPU_DENORMALS_OPTIMIZATION": False,
    "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE": 1.0,  # all weights count, also zeros
    "ENABLE_TENSOR_PARALLEL": False,  # otherwise sums are split by sockets
}


# Forms of a control token's name, and the marks that it begins with.
_MARKUP = re.compile(r"(?=.*\w)(<[^<>\s]{1,60}>|\[[^\[\]\s]{1,60}\])")
_INSIDE = re.compile(r"[^\w\s]+|.")


class EngineError(ValueError):
    """OpenVINO cannot compile a model for this processor."""


class OpenVinoDecoder:
    """A model that ``openvino-genai`` wrote, with paged attention: slots take blocks of one cache as they need them.

    Args:
        directory: holds ``openvino_model.xml`` and the files of the tokenizer, from ``convert``.
        slots: sequences.
        context: most tokens of each sequence.
        threads: None lets OpenVINO choose.
        batch: most tokens of one ``decode``.
        cells: tokens of the cache, at least those of one sequence; None for those of all.
        adapters: those beside the model, by name.

    Raises:
        FileNotFoundError: the model does not exist.
        EngineError: OpenVINO cannot compile the model for this processor.
        ValueError: an adapter does not fit the model.
    """

    def __init__(
        self,
        directory: Path,
        slots: int,
        context: int,
        threads: int | None = None,
        batch: int = 512,
        cells: int | None = None,
        adapters: Mapping[str, Adapter] = NO_ADAPTERS,
    ) -> None:
        import openvino
        import openvino_genai
        from openvino._offline_transformations import paged_attention_transformation

        if not (directory / MODEL).is_file():
            raise FileNotFoundError(f"{directory / MODEL} is missing; `convert` makes it from a GGUF file")
        self.slots, self.context, self.block = slots, context, BLOCK
        of_slot = -(-context // BLOCK)
        blocks = max(of_slot, (cells or slots * of_slot * BLOCK) // BLOCK)
        self.cells = blocks * BLOCK
        self._pages = Pages(blocks, BLOCK, slots)
        self.batch = max(batch, slots + 1)
        self.adapters: Sequence[str] = tuple(adapters)
        self._openvino: Any = openvino
        with own_signal_stack():
            self._tokenizer: Any = openvino_genai.Tokenizer(directory)
        self._pieces: dict[int, bytes] = {number: piece for piece, number in self._tokenizer.get_vocab().items()}
        self.vocabulary = len(self._pieces)
        self._end: int = self._tokenizer.get_eos_token_id()
        self._control = control_tokens(self._pieces, self._encode)
        self._names = re.compile("|".join(re.escape(name) for name in sorted(self._control, reverse=True)) or r"(?!)")
        self._numbers = frozenset(self._control.values())
        model = openvino.Core().read_model(directory / MODEL)
        paged_attention_transformation(model)
        _take_last_rows(model)
        if adapters:
            add_adapters(model, adapters)
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, **NUMERICS}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = compile_model(model, settings)
        self._request: Any = compiled.create_infer_request()
        self._is_interrupted = False
        self._caches: list[Any] = []
        for port in compiled.inputs:
            if "cache" in port.any_name:
                shape = [blocks, *(size.get_length() for size in list(port.partial_shape)[1:])]
                self._caches.append(openvino.Tensor(port.element_type, shape))
                self._request.set_tensor(port.any_name, self._caches[-1])

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Split text into tokens; ``special`` for a template, whose control tokens become such."""
        if special:
            return self._encode(text)
        # The tokenizer has no such switch. So the name of a control token is split inside, where marks end and letters
        # begin: no token crosses that place anyway.
        tokens: list[int] = []
        start = 0
        for name in self._names.finditer(text):
            split = name.start() + _INSIDE.match(name[0]).end()  # type: ignore[union-attr]
            tokens += self._encode(text[start:split])
            start = split
        return tokens + self._encode(text[start:])

    def _encode(self, text: str) -> list[int]:
        if not text:
            return []
        return [int(token) for token in self._tokenizer.encode(text, add_special_tokens=False).input_ids.data.ravel()]

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; none of a control token."""
        return b"" if token in self._numbers else self._pieces[token]

    def ends(self, token: int) -> bool:
        """Tell whether the token ends the generation."""
        return token == self._end

    def held(self, slots: Collection[int]) -> int:
        """Return the cells of the blocks that these slots hold together."""
        return BLOCK * self._pages.held(slots)

    def reserve(self, slot: int, start: int, end: int) -> bool:
        """Take blocks for the tokens of a slot from one position to another, and tell whether so many are free."""
        copies = self._pages.reserve(slot, start, end)
        for source, target in copies or ():
            for cache in self._caches:
                cache.data[target] = cache.data[source]
        return copies is not None

    def decode(self, parts: Sequence[Part]) -> Array:
        """Add tokens to slots and return the logits, float32 ``(rows, vocabulary)``, valid until the next call.

        Args:
            parts: at most one for a slot.

        Raises:
            DecodeError: OpenVINO could not compute the logits, or the cache has no room for these tokens.
            Interrupted: another thread asked for that.
        """
        self._is_interrupted = False
        if not all(self.reserve(part.slot, part.position, part.position + len(part.tokens)) for part in parts):
            raise DecodeError(f"the cache of {self.cells} tokens is full")
        ends = list(accumulate(len(part.tokens) for part in parts))
        after = [part.position + len(part.tokens) for part in parts]
        blocks = [-(-length // BLOCK) for length in after]
        inputs = {
            "input_ids": np.concatenate([np.asarray(part.tokens, np.int64) for part in parts]),
            "position_ids": np.concatenate(
                [np.arange(part.position, length, dtype=np.int64) for part, length in zip(parts, after, strict=True)]
            ),
            "past_lens": np.array([part.position for part in parts], np.int32),
            "subsequence_begins": np.array([0, *ends], np.int32),
            "block_indices": np.concatenate(
                [self._pages.table(part.slot)[:count] for part, count in zip(parts, blocks, strict=True)]
            ).astype(np.int32),
            "block_indices_begins": np.array([0, *accumulate(blocks)], np.int32),
            "max_context_len": np.array(max(after), np.int32),
            "last_rows": np.concatenate(
                [np.arange(end - part.rows, end, dtype=np.int64) for part, end in zip(parts, ends, strict=True)]
            ),
        }
        if self.adapters:
            lengths = [len(part.tokens) for part in parts]
            inputs[INPUT] = numbers_of(self.adapters, [part.adapter for part in parts], lengths)
        try:
            for name, value in inputs.items():
                self._request.set_tensor(name, self._openvino.Tensor(value))
            self._request.infer()
        except RuntimeError as error:
            if self._is_interrupted:
                raise Interrupted("another thread interrupted it") from error
            raise DecodeError(f"OpenVINO could not compute a batch: {reason(error)}") from error
        logits: Array = self._request.get_output_tensor().data
        return logits.reshape(-1, self.vocabulary)

    def interrupt(self) -> None:
        """Let the ``decode`` of another thread end at its next operation, in less than 1 ms (measured).

        With one thread OpenVINO computes to the end.
        """
        self._is_interrupted = True
        self._request.cancel()

    def truncate(self, slot: int, length: int) -> None:
        """Give back the blocks of a slot behind a position; later tokens overwrite those of the last block."""
        self._pages.truncate(slot, length)

    def copy(self, source: int, target: int, length: int) -> None:
        """Replace the content of a slot by the first tokens of another one, whose blocks it shares."""
        self._pages.share(source, target, length)

    def close(self) -> None:
        """Free all memory."""
        with own_signal_stack():
            self._request = self._tokenizer = None
            self._caches.clear()


def control_tokens(pieces: Mapping[int, bytes], encode: Callable[[str], list[int]]) -> dict[str, int]:
    """Return the control tokens of a vocabulary by name: markup that is a single token, wherever it stands.

    Args:
        pieces: the bytes of each token.
        encode: splits a text; names of control tokens become these tokens.
    """
    tokens: dict[str, int] = {}
    for token, piece in pieces.items():
        name = piece.decode("utf-8", "replace")
        if _MARKUP.fullmatch(name) and encode(f"a{name}a")[1:-1] == [token]:
            tokens[name] = token
    return tokens


def _take_last_rows(model: Any) -> None:
    """Limit the last and largest layer to the logits of the tokens at ``last_rows``."""
    from openvino import opset13 as ops

    output = model.outputs[0].node.input_value(0).get_node()
    rows = ops.parameter([-1], np.int64, name="last_rows")
    rows.output(0).set_names({"last_rows"})
    output.input(0).replace_source_output(ops.gather(output.input_value(0), rows, np.int64(0)).output(0))
    model.add_parameters([rows])


class _SignalStack(ctypes.Structure):
    """``stack_t`` of ``sigaltstack(2)`` on Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def own_signal_stack() -> Iterator[None]:
    """Leave this thread the signal stack that it has.

    On CPUs with AVX-512 each instance of the plugin sets one of its own, and gives back the former when it ends. Where
    two end in another order the thread keeps one that is freed, and its next signal, such as Ctrl-C, ends the process.
    """
    library, own = ctypes.CDLL(None), _SignalStack()
    library.sigaltstack(None, ctypes.byref(own))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(own), None)


def compile_model(model: Any, settings: Mapping[str, Any]) -> Any:
    """Compile a model, or the one at a path, for this CPU.

    Raises:
        EngineError: the plugin refuses the model; its message is one sentence.
    """
    import openvino

    try:
        with own_signal_stack():
            return openvino.Core().compile_model(model, "CPU", dict(settings))
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot compile the model for this processor: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Return the last line of an error of OpenVINO: the lines before name places in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def convert(model: Path, directory: Path) -> None:
    """Write the files that ``OpenVinoDecoder`` reads.

    Args:
        model: a GGUF file.
        directory: to write to; created.

    Raises:
        EngineError: OpenVINO cannot read or compile the model.
    """
    import openvino_genai

    directory.mkdir(parents=True, exist_ok=True)
    # OpenVINO writes beside the file that it reads.
    link = directory / "model.gguf"
    link.symlink_to(model.resolve())
    try:
        with own_signal_stack():
            openvino_genai.LLMPipeline(link, "CPU", enable_save_ov_model=True, **NUMERICS)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot read or compile the model: {reason(error)}") from error
    finally:
        link.unlink()


def openvino_engine(
    directory: Path,
    slots: int,
    context: int,
    threads: int | None = None,
    queue: int = QUEUE,
    speculative_tokens: int = 0,
    cells: int | None = None,
    adapters: Mapping[str, Adapter] = NO_ADAPTERS,
) -> ContinuousBatching:
    """Load a converted model for continuous batching.

    Args:
        directory: from ``convert``.
        slots: most requests that run at once.
        context: most tokens of each request, prompt and answer.
        threads: None lets OpenVINO choose.
        queue: most requests that wait.
        speculative_tokens: most tokens that are drafted in a step; 0 for none.
        cells: tokens of the cache that all requests share; None for ``slots * context``.
        adapters: those that a request may ask for, by name.

    Raises:
        FileNotFoundError: the model does not exist.
        EngineError: OpenVINO cannot compile the model for this processor.
        ValueError: an adapter does not fit the model.
    """
    decoder = OpenVinoDecoder(directory, slots, context, threads, cells=cells, adapters=adapters)
    return ContinuousBatching(decoder, queue, BESIDE, worth_copying=1, speculative_tokens=speculative_tokens)
