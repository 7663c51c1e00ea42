"""Llama's network in PyTorch and float32: what the served variant of a language model is measured against."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from handlers.contract import Array
from training.language.gguf_file import Metadata


class KeyValues:
    """Keys and values of the tokens that a network has read, by layer: it goes on from there."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self._layers[0][0].shape[2] if self._layers else 0

    def add(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of further tokens, and return those of all, ``(n, heads, length, size)``."""
        if layer in self._layers:
            before = self._layers[layer]
            key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        self._layers[layer] = key, value
        return key, value


class Llama(nn.Module):
    """A decoder of tokens (Touvron et al. 2023), with grouped-query attention, the output tied to the embedding."""

    def __init__(self, metadata: Metadata) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(metadata.tokens), metadata.width)
        self.layers = nn.ModuleList(_Layer(metadata, number) for number in range(metadata.layers))
        self.norm = nn.RMSNorm(metadata.width, metadata.epsilon)
        self._size = metadata.width // metadata.heads
        self._base = metadata.rope_base

    def forward(self, tokens: Tensor, read: KeyValues | None = None) -> Tensor:
        """INT64 (n, length) tokens -> FP32 (n, length, vocabulary) logits of each next token.

        Args:
            read: the tokens before, of which there may only be some where ``tokens`` is one of each row; gets these.
        """
        start = read.length if read else 0
        turns = [part[start:] for part in _turns(start + tokens.shape[1], self._size, self._base)]
        vectors = self.embedding(tokens)
        for layer in self.layers:
            vectors = layer(vectors, *turns, read)
        return functional.linear(self.norm(vectors), self.embedding.weight)


class _Layer(nn.Module):
    def __init__(self, metadata: Metadata, number: int) -> None:
        super().__init__()
        width, inner, size = metadata.width, metadata.inner, metadata.width // metadata.heads
        self.attention_norm = nn.RMSNorm(width, metadata.epsilon)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, metadata.kv_heads * size, bias=False)
        self.value = nn.Linear(width, metadata.kv_heads * size, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.feed_norm = nn.RMSNorm(width, metadata.epsilon)
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self._size, self._number = size, number

    def forward(self, vectors: Tensor, cos: Tensor, sin: Tensor, read: KeyValues | None) -> Tensor:
        x = self.attention_norm(vectors)
        query, key, value = (self._heads(part(x)) for part in (self.query, self.key, self.value))
        query, key = _rotate(query, cos, sin), _rotate(key, cos, sin)
        if read is not None:
            key, value = read.add(self._number, key, value)
        # A single token attends to all before it.
        mixed = functional.scaled_dot_product_attention(
            query, key, value, is_causal=query.shape[2] > 1, enable_gqa=True
        )
        vectors = vectors + self.output(mixed.transpose(1, 2).flatten(2))
        x = self.feed_norm(vectors)
        fed: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return vectors + fed

    def _heads(self, x: Tensor) -> Tensor:
        """(n, length, heads * size) -> (n, heads, length, size)."""
        return x.view(*x.shape[:2], -1, self._size).transpose(1, 2)


def _turns(length: int, size: int, base: float) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of each position's angles, ``(length, size)`` (rotary embedding, Su et al. 2021)."""
    frequencies = base ** (-torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(length), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


PARTS = {  # names of a layer's parts in this module and in a GGUF file
    "attention_norm": "attn_norm",
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "output": "attn_output",
    "feed_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def parameter_names(metadata: Metadata) -> dict[str, str]:
    """Map each parameter's name in this module to its name in a GGUF file."""
    layers = {
        f"layers.{number}.{part}.weight": f"blk.{number}.{stored}.weight"
        for number in range(metadata.layers)
        for part, stored in PARTS.items()
    }
    return {"embedding.weight": "token_embd.weight", "norm.weight": "output_norm.weight", **layers}


def llama(metadata: Metadata, weights: Mapping[str, Array]) -> Llama:
    """Build the network with the weights of a GGUF file, for evaluation."""
    with torch.device("meta"):
        module = Llama(metadata)
    state = {name: torch.from_numpy(weights[stored].copy()) for name, stored in parameter_names(metadata).items()}
    module.load_state_dict(state, assign=True)
    return module.eval()


def export_weights(module: Llama, metadata: Metadata) -> dict[str, Array]:
    """Return the network's weights by their names in a GGUF file: the inverse of ``llama``."""
    state = module.state_dict()
    return {stored: state[name].numpy() for name, stored in parameter_names(metadata).items()}


def continue_prompt(module: Llama, prompt: Sequence[int], length: int, end: int) -> list[int]:
    """Return the likeliest tokens after a prompt, ``length`` or up to ``end``."""
    tokens: list[int] = []
    read, unread = KeyValues(), list(prompt)
    with torch.inference_mode():
        while len(tokens) < length and (not tokens or tokens[-1] != end):
            unread = [int(module(torch.tensor([unread]), read)[0, -1].argmax())]
            tokens += unread
    return tokens
