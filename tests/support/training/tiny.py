"""A language model of two narrow layers, made on the fly, with random weights or taught a few sentences by heart."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from handlers.contract import Array
from handlers.language.decoders.adapters import Adapter, Change
from handlers.language.decoders.decoder import Part
from training.language import gguf_file
from training.language.gguf_file import Metadata
from training.language.llama import PARTS, Llama, export_weights, llama
from training.language.recipe import Expected
from training.language.tokenizer import LanguageTokenizer

WIDTH, INNER, SIZE, HEADS, KV_HEADS, LAYERS = 64, 96, 32, 2, 1, 2
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END, PADDING = 2, -1
MERGES = ("t h", "th e", "Ġ the", "o o", "1 2")
TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}{{ '<|im_start|>system\nBe brief<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STORED = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
    "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
}  # fmt: skip
SENTENCE, ANSWER = "The tide turns at noon, then the boats go out.", "It is a fox."
EXPECTED = Expected(
    continuations={"The tide turns": " at noon"},
    perplexity=5.0,
    question="Who?",
    answer=ANSWER[:6],
    conversation="<|im_start|>system\nBe brief<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n",
)


@dataclass(frozen=True)
class Tiny:
    """A file, and what is read from it."""

    path: Path
    metadata: Metadata
    weights: dict[str, Array]
    tokenizer: LanguageTokenizer

    @property
    def module(self) -> Llama:
        """A new network with the weights."""
        return llama(self.metadata, self.weights)


def load(path: Path) -> Tiny:
    metadata, weights = gguf_file.read_gguf(path)
    return Tiny(path, metadata, weights, LanguageTokenizer(metadata))


def write(path: Path, architecture: str = "llama", without: str = "") -> Path:
    """Write a file of random weights.

    Args:
        path: of the file.
        architecture: that it names.
        without: the key that it lacks.
    """
    from gguf import GGUFValueType, GGUFWriter

    writer = GGUFWriter(path, architecture)
    for key, value in _keys().items():
        name = key.replace("llama.", f"{architecture}.")
        if key != without:
            first = value[0] if isinstance(value, list) else value
            kind = GGUFValueType.get_type(first)
            kind = GGUFValueType.UINT32 if kind == GGUFValueType.INT32 and not isinstance(value, list) else kind
            writer.add_key_value(name, value, *((GGUFValueType.ARRAY, kind) if isinstance(value, list) else (kind,)))
    for name, weights in (_random() | (_biases() if architecture == "qwen2" else {})).items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def teach(tiny: Tiny, target: Path) -> Path:
    """Write a file like another, whose network has learned ``SENTENCE`` and the conversation by heart."""
    tokenize = tiny.tokenizer.tokenize
    texts = [
        [*tokenize(SENTENCE, False), END],
        [*tokenize(EXPECTED.conversation, True), *tokenize(ANSWER, False), END],
    ]
    tokens = pad_sequence([torch.tensor(text) for text in texts], batch_first=True, padding_value=PADDING)
    module = tiny.module.requires_grad_(True)
    optimizer = torch.optim.AdamW(module.parameters(), 5e-3)
    for _ in range(60):
        logits = module(tokens[:, :-1].clamp(0)).flatten(0, 1)
        loss = functional.cross_entropy(logits, tokens[:, 1:].flatten(), ignore_index=PADDING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    gguf_file.write_gguf(tiny.path, tiny.metadata, export_weights(module, tiny.metadata), target, "Q8_0")
    return target


def stored(layer: str) -> str:
    """The name of a layer's weights in a GGUF file."""
    _, number, _, part = layer.split(".")
    return f"blk.{number}.{STORED[part]}.weight"


def random_adapter(tiny: Tiny, seed: int, rank: int, layers: Sequence[str]) -> Adapter:
    """Changes as large as the weights."""
    draw = np.random.default_rng(seed)
    shapes = {layer: tiny.weights[stored(layer)].shape for layer in layers}
    return {
        layer: Change(
            draw.normal(0, 0.1, (rank, inputs)).astype(np.float32),
            draw.normal(0, 0.3, (outputs, rank)).astype(np.float32),
        )
        for layer, (outputs, inputs) in shapes.items()
    }


class TorchDecoder:
    """The network as the decoder of continuous batching; each step computes all tokens of a slot anew."""

    def __init__(self, tiny: Tiny, slots: int = 2, context: int = 256) -> None:
        self.slots, self.context, self.batch = slots, context, context
        self.cells, self.block = slots * context, 1
        self.adapters: Sequence[str] = ()
        self.vocabulary = len(tiny.metadata.tokens)
        self._tiny, self._module = tiny, tiny.module
        self._contents: list[list[int]] = [[] for _ in range(slots)]

    def tokenize(self, text: str, special: bool) -> list[int]:
        return self._tiny.tokenizer.tokenize(text, special)

    def piece(self, token: int) -> bytes:
        return self._tiny.tokenizer.text([token]).encode()

    def ends(self, token: int) -> bool:
        return token == self._tiny.metadata.end

    def held(self, slots: Collection[int]) -> int:
        return sum(len(self._contents[slot]) for slot in slots)

    def reserve(self, slot: int, start: int, end: int) -> bool:
        return True

    def decode(self, parts: Sequence[Part]) -> Array:
        rows = []
        for part in parts:
            held = self._contents[part.slot]
            held[part.position :] = part.tokens
            with torch.inference_mode():
                logits = self._module(torch.tensor([held]))[0].numpy()
            rows.append(logits[len(held) - part.rows :])
        return np.concatenate(rows)

    def interrupt(self) -> None:
        pass

    def truncate(self, slot: int, length: int) -> None:
        del self._contents[slot][length:]

    def copy(self, source: int, target: int, length: int) -> None:
        self._contents[target] = self._contents[source][:length]

    def close(self) -> None:
        self._contents.clear()


def _keys() -> dict[str, Any]:
    tokens = _tokens()
    return {
        "general.name": "tiny",
        "general.license": "cc0-1.0",
        "general.languages": ["en"],
        "llama.context_length": 4096,
        "llama.block_count": LAYERS,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.rope.freq_base": 10000.0,
        "llama.rope.dimension_count": SIZE,
        "llama.vocab_size": len(tokens),
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in CONTROL else 1 for token in tokens],
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": END,
        "tokenizer.chat_template": TEMPLATE,
    }


def _biases() -> dict[str, Array]:
    """What Qwen2 has beside Llama's parts."""
    widths = {"attn_q": WIDTH, "attn_k": KV_HEADS * SIZE, "attn_v": KV_HEADS * SIZE}
    names = [(f"blk.{number}.{part}.bias", width) for number in range(LAYERS) for part, width in widths.items()]
    return {name: np.full(width, 0.1, np.float32) for name, width in names}


def _tokens() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return [*CONTROL, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]


def _random() -> dict[str, Array]:
    draw = np.random.default_rng(7)
    width_of_keys = KV_HEADS * SIZE
    shapes = {
        "query": (WIDTH, WIDTH),
        "key": (width_of_keys, WIDTH),
        "value": (width_of_keys, WIDTH),
        "output": (WIDTH, WIDTH),
        "gate": (INNER, WIDTH),
        "up": (INNER, WIDTH),
        "down": (WIDTH, INNER),
    }
    weights = {"token_embd.weight": draw.normal(0, 0.1, (len(_tokens()), WIDTH)).astype(np.float32)}
    for number in range(LAYERS):
        for part, stored in PARTS.items():
            shape = shapes.get(part)
            values = draw.normal(0, 0.15, shape) if shape else draw.uniform(0.8, 1.2, WIDTH)
            weights[f"blk.{number}.{stored}.weight"] = values.astype(np.float32)
    weights["output_norm.weight"] = draw.uniform(0.8, 1.2, WIDTH).astype(np.float32)
    return weights
