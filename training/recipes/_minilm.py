"""MiniLM (Wang et al. 2020), a small BERT: six layers that 384 numbers a token pass through, in plain PyTorch.

The weights are those of all-MiniLM-L6-v2, 22.7 million, Apache-2.0.
"""

import torch
from torch import Tensor, nn

from handlers.formats.tokens import PAD

VOCABULARY, POSITIONS, WIDTH, INNER, HEADS, LAYERS = 30_522, 512, 384, 1536, 12, 6
EPSILON = 1e-12
GROUP = 16  # texts of like length that are computed together


class Layer(nn.Module):
    """Attention, then two linear layers; each is added to its input and normalised."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.attended = nn.Linear(WIDTH, WIDTH)
        self.attention_norm = nn.LayerNorm(WIDTH, EPSILON)
        self.inner = nn.Linear(WIDTH, INNER)
        self.outer = nn.Linear(INNER, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """FP32 (n, length, 384), boolean (n, 1, 1, length) -> FP32 (n, length, 384)."""
        query, key, value = (
            part(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )  # (n, 12, length, 32) each
        attention = nn.functional.scaled_dot_product_attention(query, key, value, mask)
        x = self.attention_norm(x + self.dropout(self.attended(attention.transpose(1, 2).flatten(2))))
        inner = nn.functional.gelu(self.inner(x))  # (n, length, 1536)
        return self.norm(x + self.dropout(self.outer(inner)))  # type: ignore[no-any-return]


class MiniLM(nn.Module):
    """An encoder of token indices to one vector a text, the mean of its tokens' vectors.

    Args:
        dropout: share of numbers that is zeroed while training.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH, padding_idx=PAD)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.segments = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(dropout) for _ in range(LAYERS))
        self.apply(_initialise)

    def freeze(self, layers: int) -> None:
        """Exclude the vectors of words and positions and the lowest ``layers`` from training."""
        fixed = [self.words, self.positions, self.segments, self.norm, *self.layers[:layers]]
        for parameter in (parameter for part in fixed for parameter in part.parameters()):
            parameter.requires_grad = False

    def forward(self, tokens: Tensor) -> Tensor:
        """INT64 (n, length), filled up with ``PAD`` -> FP32 (n, 384)."""
        if torch.compiler.is_exporting():
            return self._encode(tokens)
        lengths = (tokens != PAD).sum(1)
        order = lengths.argsort()
        # Padding costs as much time as words: half of it is saved where short texts are not padded to the longest.
        groups = [self._encode(tokens[rows, : int(lengths[rows[-1]])]) for rows in torch.split(order, GROUP)]
        return torch.cat(groups)[order.argsort()]

    def _encode(self, tokens: Tensor) -> Tensor:
        mask = tokens != PAD  # (n, length)
        position = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.words(tokens) + self.positions(position) + self.segments.weight[0]  # (n, length, 384)
        x = self.dropout(self.norm(x))
        for layer in self.layers:
            x = layer(x, mask[:, None, None])
        share = mask / mask.sum(1, keepdim=True)  # (n, length)
        mean: Tensor = (x * share[:, :, None]).sum(1)
        return mean


def load_weights(encoder: MiniLM, content: bytes) -> None:
    """Fill an encoder with weights in the safetensors format, under BERT's names.

    Raises:
        KeyError, RuntimeError: names or shapes are not those of MiniLM.
    """
    from safetensors.torch import load  # in the recipe's own extra: --help and the list of recipes do without it

    tensors = load(content)
    encoder.load_state_dict({name: tensors[_berts_name(name)] for name in encoder.state_dict()})


_EMBEDDINGS = {"words": "word_embeddings", "positions": "position_embeddings", "segments": "token_type_embeddings"}
_PARTS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attended": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "norm": "output.LayerNorm",
}


def _berts_name(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "layers":
        return f"encoder.layer.{parts[1]}.{_PARTS[parts[2]]}.{parts[3]}"
    return f"embeddings.{_EMBEDDINGS.get(parts[0], 'LayerNorm')}.{parts[1]}"


def _initialise(module: nn.Module) -> None:
    """Initialise as BERT does: small normal weights."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
