"""Smaller networks that learn from a champion: its own with channels removed, and one that starts small.

A classification's student learns from the labels and from the champion's probabilities (Hinton et al. 2015,
https://arxiv.org/abs/1503.02531); a regression's, from the labels alone.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training import pipeline
from training.fitting import fit
from training.improve.optimize.quantize import NotMadeError
from training.recipe import Recipe, Trained, to_tensors

SHARES = (0.25, 0.5)  # shares of the channels of each layer that are removed
TEMPERATURE = 4.0  # of both probabilities, so that the teacher's less likely classes count too
TEACHER_WEIGHT = 0.7  # the teacher's part of the loss; the rest is the labels'
RATE_FACTOR = 0.25  # of the learning rate after pruning: most of the weights are good already
CHANNEL_MULTIPLE = 4  # the number of channels is rounded to it, for vector instructions


def plan(
    teacher: Trained, shares: tuple[float, ...], epochs: int | None, checkpoints: Path
) -> dict[str, Callable[[], Trained]]:
    """Return a function for each student, by name, that makes it or raises ``NotMadeError``.

    Args:
        shares: shares of channels to remove; each gives a pruned student.
        epochs: epochs of fine-tuning after pruning; None for half of the champion's.
    """
    students: dict[str, Callable[[], Trained]] = {}
    for share in shares:
        name = f"pruned {100 * share:g} %"
        students[name] = partial(_pruned, teacher, share, epochs, checkpoints / f"pruned-{100 * share:g}")
    smaller = teacher.recipe.smaller(teacher.hp)
    if smaller is not None:  # alone, which shows what the teacher is worth
        students["small"] = partial(_small, teacher, smaller, False, checkpoints / "small")
    if smaller is not None and teacher.recipe.task == "classification":
        students["distilled"] = partial(_small, teacher, smaller, True, checkpoints / "distilled")
    return students


def prune(recipe: Recipe[Any], module: nn.Module, example: tuple[Tensor, ...], share: float) -> nn.Module:
    """Copy a network without its least important channels: the tensors are smaller, not masked.

    Removing a layer's output means removing it from all that read it; torch-pruning follows these dependencies
    (Fang et al. 2023, https://arxiv.org/abs/2301.12900).

    Args:
        recipe: names the layers that may lose channels.
        example: the network's inputs for a few rows.
        share: share of each layer's channels to remove.

    Raises:
        NotMadeError: there is no layer that could lose channels, or the output's shape would change.
    """
    import torch_pruning

    pruned = copy.deepcopy(module).eval()
    layers = recipe.prunable(pruned)
    unpruned = [layer for layer in pruned.modules() if isinstance(layer, nn.Linear | nn.Conv2d) and layer not in layers]
    # Dependencies are read from the graph of gradients. What was frozen must learn again too: it loses channels.
    pruned.requires_grad_(True)
    if layers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch_pruning.pruner.BasePruner(
                pruned,
                example,
                importance=torch_pruning.importance.GroupMagnitudeImportance(),
                pruning_ratio=share,
                ignored_layers=unpruned,
                round_to=CHANNEL_MULTIPLE,
            ).step()
    if parameters(pruned) == parameters(module):
        raise NotMadeError("it has no layer inside that could lose channels")
    with torch.inference_mode():
        if pruned(*example).shape != module(*example).shape:
            raise NotMadeError("its output would lose channels: the recipe's `prunable` must leave out that layer")
    return pruned


def parameters(module: nn.Module) -> int:
    """Count a network's weights."""
    return sum(values.numel() for values in module.parameters())


class Lesson(nn.Module):
    """A student beside its teacher: the output while fitting is of both, else the student's."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student = student.train()
        self.teacher = copy.deepcopy(teacher).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Lesson":
        """Switch the student's mode; the teacher always evaluates."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs of a batch -> FP32 (n, 2, classes) logits, the student's first; or (n, classes)."""
        answer: Tensor = self.student(*inputs)
        return torch.stack([answer, self.teacher(*inputs)], 1) if self.training else answer


def lesson_loss(recipe: Recipe[Any], output: Tensor, target: Tensor, hp: Any) -> Tensor:
    """Return the loss of each row, ``(n,)``: the recipe's, and the divergence of the student from the teacher."""
    if output.ndim == 2:
        return recipe.loss(output, target, hp)
    student, teacher = (nn.functional.log_softmax(logits / TEMPERATURE, 1) for logits in output.unbind(1))
    divergence = nn.functional.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    # Softened gradients are smaller by the square of the temperature.
    return (1 - TEACHER_WEIGHT) * recipe.loss(output[:, 0], target, hp) + TEACHER_WEIGHT * TEMPERATURE**2 * divergence


class Distillation(fit.Fit):
    """The fit of a ``Lesson``."""

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row, ``(n,)``, with the teacher's part."""
        return lesson_loss(self.recipe, output, target, self.hp)


def _pruned(teacher: Trained, share: float, epochs: int | None, checkpoints: Path) -> Trained:
    example = tuple(to_tensors(teacher.data.test.head(2)))
    module = prune(teacher.recipe, teacher.module, example, share)
    hp = replace(teacher.hp, lr=RATE_FACTOR * teacher.hp.lr, epochs=epochs or -(-teacher.hp.epochs // 2))
    return _fit(teacher, hp, lambda: module, teacher.recipe.task == "classification", checkpoints)


def _small(teacher: Trained, hp: Any, taught: bool, checkpoints: Path) -> Trained:
    return _fit(teacher, hp, lambda: teacher.recipe.module(hp, teacher.data), taught, checkpoints)


def _fit(teacher: Trained, hp: Any, make: Callable[[], nn.Module], taught: bool, checkpoints: Path) -> Trained:
    recipe = teacher.recipe

    def student() -> fit.Fit:
        module = make().train()
        return Distillation(recipe, hp, Lesson(module, teacher.module)) if taught else fit.Fit(recipe, hp, module)

    trained = fit.fit(recipe, hp, teacher.data, checkpoints, make=student)
    module = trained.module.student if isinstance(trained.module, Lesson) else trained.module
    trained = replace(trained, module=module.eval(), preset=teacher.preset)
    return pipeline.calibrated(trained) if hp.calibrate else trained
