from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from serving.registry import Registry
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import CACHE, load
from training import recipes
from training.champion import FittedChampion, open_champion
from training.improve.optimize.quantize import NotMadeError
from training.improve.optimize.students import Lesson, lesson_loss, parameters, plan, prune
from training.packaging.export import predict
from training.recipe import Hyperparameters, Trained, to_tensors
from training.recipes.fashion import Fashion


def example(trained: Trained) -> tuple[torch.Tensor, ...]:
    return tuple(to_tensors(trained.data.test.head(2)))


def accuracy(trained: Trained) -> float:
    test = trained.data.test
    return float(np.mean(predict(trained.module, test).argmax(1) == test.target))


def test_pruned_layers_are_smaller_and_the_output_keeps_its_shape(champion: FittedChampion) -> None:
    trained = champion.trained
    before = {name: tuple(values.shape) for name, values in trained.module.named_parameters()}
    pruned = prune(trained.recipe, trained.module, example(trained), 0.5)
    shapes = {name: tuple(values.shape) for name, values in pruned.named_parameters()}
    assert shapes == {
        "layers.0.weight": (8, 2),
        "layers.0.bias": (8,),
        "layers.2.weight": (4, 8),
        "layers.2.bias": (4,),
    }
    assert pruned(*example(trained)).shape == (2, 4)
    assert {name: tuple(values.shape) for name, values in trained.module.named_parameters()} == before


def test_the_channels_that_stay_are_the_largest(champion: FittedChampion) -> None:
    module, (first, last) = champion.trained.module, (0, 2)
    layers = module.get_submodule("layers")
    assert isinstance(layers, nn.Sequential)
    with torch.no_grad():
        for name in ("0.weight", "0.bias"):
            layers.get_parameter(name)[:8] = 1e-6
        layers.get_parameter("2.weight")[:, :8] = 1e-6
    kept = module.get_parameter(f"layers.{last}.weight")[:, 8:]
    pruned = prune(Quadrants(), module, example(champion.trained), 0.5)
    torch.testing.assert_close(pruned.get_parameter(f"layers.{last}.weight"), kept)
    assert pruned.get_parameter(f"layers.{first}.bias").shape == (8,)


def test_convolutions_lose_channels_with_their_normalisations() -> None:
    recipe = Fashion()
    hp = recipe.preset("smoke")
    data = load(recipe)
    module = recipe.module(hp, data)
    pruned = prune(recipe, module, tuple(to_tensors(data.test.head(2))), 0.5)
    shapes = [tuple(values.shape) for values in pruned.parameters() if values.ndim > 1]
    assert shapes == [(4, 1, 3, 3), (8, 4, 3, 3), (8, 8, 3, 3), (10, 8)]
    assert [layer.num_features for layer in pruned.modules() if isinstance(layer, nn.BatchNorm2d)] == [4, 8, 8]


def test_what_is_inside_each_layer_of_a_text_encoder_shrinks_and_its_heads_stay() -> None:
    recipe = recipes.find("sentiment")
    data = load(recipe)
    module = recipe.module(replace(recipe.preset("smoke"), pretrained=False), data).eval()
    inputs = tuple(tensor[:, :16] for tensor in to_tensors(data.test.head(2)))
    pruned = prune(recipe, module, inputs, 0.5)
    shapes = {name: tuple(values.shape) for name, values in pruned.named_parameters()}
    assert {shapes[f"encoder.layers.{i}.inner.weight"] for i in range(6)} == {(768, 384)}
    assert {shapes[f"encoder.layers.{i}.outer.weight"] for i in range(6)} == {(384, 768)}
    assert {shapes[f"encoder.layers.{i}.query.weight"] for i in range(6)} == {(384, 384)}
    assert pruned(*inputs).shape == (2, 3)


def test_a_single_layer_has_no_channels_to_lose(store: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "linear"
    folder.mkdir()
    trained = open_champion(recipes.find("linear"), store, CACHE, folder).trained
    with pytest.raises(NotMadeError, match="it has no layer inside that could lose channels"):
        prune(trained.recipe, trained.module, example(trained), 0.5)


class Careless(Quadrants):
    """A recipe that offers its output for pruning."""

    def prunable(self, module: nn.Module) -> Sequence[nn.Module]:
        """All layers, the last too."""
        return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]

    def smaller(self, hp: Hyperparameters) -> Hyperparameters:
        """The same network over again."""
        return replace(hp, epochs=20)


def test_an_output_that_would_lose_channels_is_refused(champion: FittedChampion) -> None:
    layers = champion.trained.module.get_submodule("layers")
    assert isinstance(layers, nn.Sequential)
    layers[2] = nn.Linear(16, 8)  # enough for a multiple of four to go
    with pytest.raises(NotMadeError, match="its output would lose channels: the recipe's `prunable` must leave out"):
        prune(Careless(), champion.trained.module, example(champion.trained), 0.5)


def test_a_pruned_network_learns_again(champion: FittedChampion, tmp_path: Path) -> None:
    teacher = champion.trained
    weights = {name: values.clone() for name, values in teacher.module.state_dict().items()}
    student = plan(teacher, (0.5,), None, tmp_path)["pruned 50 %"]()
    assert parameters(student.module) == 8 * 2 + 8 + 4 * 8 + 4 < parameters(teacher.module)
    raw = replace(teacher, module=prune(teacher.recipe, teacher.module, example(teacher), 0.5))
    assert accuracy(student) > max(0.9, accuracy(raw))
    assert student.hp.epochs == 5
    assert student.hp.lr == pytest.approx(0.25 * teacher.hp.lr)
    assert student.recipe is teacher.recipe
    for name, values in teacher.module.state_dict().items():
        torch.testing.assert_close(values, weights[name])
    assert not list(tmp_path.rglob("*.ckpt"))


def test_the_epochs_of_fine_tuning_can_be_chosen(champion: FittedChampion, tmp_path: Path) -> None:
    assert plan(champion.trained, (0.5,), 1, tmp_path)["pruned 50 %"]().hp.epochs == 1


def test_a_smaller_network_learns_alone_and_from_the_champion(champion: FittedChampion, tmp_path: Path) -> None:
    teacher = replace(champion.trained, recipe=Careless())
    made = plan(teacher, (), None, tmp_path)
    assert list(made) == ["small", "distilled"]
    taught = made["distilled"]()
    assert not isinstance(taught.module, Lesson)
    assert accuracy(taught) > 0.9
    assert any(
        not torch.equal(a, b)
        for a, b in zip(taught.module.parameters(), made["small"]().module.parameters(), strict=True)
    )


def test_a_recipe_without_a_smaller_network_distils_nothing(champion: FittedChampion, tmp_path: Path) -> None:
    assert list(plan(champion.trained, (0.25, 0.5), None, tmp_path)) == ["pruned 25 %", "pruned 50 %"]


def test_fashions_student_has_half_of_the_channels() -> None:
    recipe = Fashion()
    assert recipe.smaller(recipe.preset("quick")).channels == (8, 16, 32, 32)


def test_a_lesson_gives_both_answers_while_fitting_and_the_students_else() -> None:
    student, teacher = nn.Linear(2, 3), nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    lesson = Lesson(student, teacher).train()
    x = torch.ones(4, 2)
    assert lesson(x).shape == (4, 2, 3)
    assert not any(module.training for module in lesson.teacher.modules())
    assert student.training
    assert {name for name, values in lesson.named_parameters() if values.requires_grad} == {
        "student.weight",
        "student.bias",
    }
    torch.testing.assert_close(lesson.eval()(x), student(x))


def test_a_student_who_answers_as_the_teacher_only_has_the_labels_loss() -> None:
    recipe, hp = Quadrants(), Hyperparameters(1, 1, 0.1)
    logits, target = torch.tensor([[2.0, 0.0, 0.0, 1.0]]), torch.tensor([0])
    plain = recipe.loss(logits, target, hp)
    torch.testing.assert_close(lesson_loss(recipe, logits, target, hp), plain)
    same: Any = lesson_loss(recipe, torch.stack([logits, logits], 1), target, hp)
    torch.testing.assert_close(same, 0.3 * plain)
    other = torch.stack([logits, logits.flip(1)], 1)
    assert lesson_loss(recipe, other, target, hp).item() > same.item() + 0.1
