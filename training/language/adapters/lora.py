"""Low-rank adaptation (Hu et al. 2021): each matrix of attention learns a change that is a product of two narrow ones.

The pretrained weights stay as they are; at the end the changes are added to them. So a version that has learned costs
nothing more when it is served. The same changes are returned, for an adapter that is served beside the weights.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from handlers.language.decoders.adapters import Adapter, Change
from training.language.instructions import Conversation
from training.language.llama import Llama
from training.language.recipe import LanguageHyperparameters

ADAPTED = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}  # names here and in an adapter
SCALE = 2.0  # factor of the changes: the paper's alpha divided by the rank
CLIP = 1.0  # the gradient's largest norm


class Adapted(nn.Module):
    """A linear layer with a change of low rank, which begins at zero.

    Args:
        layer: without bias; its weights are not fitted.
    """

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / math.sqrt(layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """FP32 (…, inputs) -> FP32 (…, outputs)."""
        plain: Tensor = self.layer(x)
        return plain + SCALE * functional.linear(functional.linear(x, self.down), self.up)

    def change(self) -> Change:
        """Return a copy of the change."""
        return Change(self.down.detach().numpy().copy(), SCALE * self.up.detach().numpy())

    def merge(self) -> nn.Linear:
        """Add the change to the layer's weights, and return the layer."""
        with torch.no_grad():
            self.layer.weight += SCALE * self.up @ self.down
        return self.layer


def tune(
    module: Llama,
    learned: Sequence[Conversation],
    hp: LanguageHyperparameters,
    step: Callable[[str], None] = lambda text: None,
) -> Adapter:
    """Fit a pretrained network to the answers of conversations, in place.

    Args:
        step: receives the loss after each tenth step.

    Returns:
        The changes, which are part of the network now.
    """
    torch.manual_seed(hp.seed)
    module.requires_grad_(False)
    for layer in module.layers:
        for name in ADAPTED:
            setattr(layer, name, Adapted(getattr(layer, name), hp.rank))
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, hp.lr, weight_decay=0.0)
    batches = math.ceil(len(learned) / hp.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, hp.lr, total_steps=hp.epochs * batches)
    for epoch in range(hp.epochs):
        order = torch.randperm(len(learned)).tolist()
        for number in range(batches):
            chosen = [learned[i] for i in order[number * hp.batch_size : (number + 1) * hp.batch_size]]
            loss = -torch.cat(answer_logprobs(module, chosen)).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            schedule.step()
            steps = epoch * batches + number + 1
            if steps % 10 == 0 or steps == hp.epochs * batches:
                step(f"step {steps} of {hp.epochs * batches}: loss {loss.item():.3f}")
    changes: dict[str, Change] = {}
    for number, layer in enumerate(module.layers):
        for name, part in ADAPTED.items():
            changes[f"layers.{number}.self_attn.{part}"] = getattr(layer, name).change()
            setattr(layer, name, getattr(layer, name).merge())
    module.requires_grad_(False)
    return changes


def answer_logprobs(module: Llama, conversations: Sequence[Conversation]) -> list[Tensor]:
    """Return the log-probabilities of the tokens of each conversation's answer, FP32 ``(answer,)``."""
    longest = max(len(conversation.tokens) for conversation in conversations)
    # Attention is causal, so that any token may fill up a shorter conversation.
    tokens = torch.tensor(
        [conversation.tokens + [0] * (longest - len(conversation.tokens)) for conversation in conversations]
    )
    logits = module(tokens[:, :-1])
    rows = []
    for row, conversation in zip(logits, conversations, strict=True):
        end = len(conversation.tokens) - 1
        logits_of_answer = row[end - conversation.answer : end]
        targets = torch.tensor(conversation.tokens[-conversation.answer :])
        rows.append(-functional.cross_entropy(logits_of_answer, targets, reduction="none"))
    return rows


def perplexity(module: Llama, conversations: Sequence[Conversation]) -> float:
    """Return the perplexity of the answers of conversations, over all their tokens together."""
    with torch.inference_mode():
        logprobs = [row for conversation in conversations for row in answer_logprobs(module, [conversation])]
    return math.exp(-torch.cat(logprobs).double().mean())
