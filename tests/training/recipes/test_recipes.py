"""What every recipe must keep to. A new one is tested here without writing anything."""

from dataclasses import FrozenInstanceError, asdict, fields
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
import torch

from handlers.contract import DTYPES, Array, ModelContract, Task, TensorSpec
from handlers.contract.example import same_answer
from handlers.engine import ENGINES
from tests.support.documents import document
from tests.support.training.trainings import Trainings, load, quickest
from training import recipes
from training.recipe import Data, Hyperparameters, Recipe, Split, to_tensors

FITTED = [name for name in recipes.names() if isinstance(recipes.find_any(name), Recipe)]  # not published


@pytest.fixture(params=FITTED)
def recipe(request: pytest.FixtureRequest) -> Recipe[Any]:
    return recipes.find(request.param)


@pytest.fixture
def data(recipe: Recipe[Any]) -> Data:
    return load(recipe)


def splits(data: Data) -> list[Split]:
    return [data.train, data.test, *([data.validation] if data.validation else [])]


def output_shape(recipe: Recipe[Any], rows: int) -> tuple[int, ...]:
    return (rows, len(recipe.labels)) if recipe.task == "classification" else (rows,)


def check_values(spec: TensorSpec, values: Array, rows: int) -> None:
    """A split's values are what the contract says of its input; of a text, its tokens."""
    if spec.datatype == "BYTES" and not spec.categories:
        assert values.shape == (rows, values.size // rows)
        assert values.dtype == np.int64
        return
    assert values.shape == (rows, *spec.shape[1:])
    assert values.dtype == spec.graph_dtype
    assert np.isfinite(values).all()
    if spec.categories:
        assert 0 <= values.min() <= values.max() < len(spec.categories)
    if spec.range:
        assert spec.range[0] <= values.min() <= values.max() <= spec.range[1]


def test_it_says_what_it_is(recipe: Recipe[Any]) -> None:
    assert recipe.name in recipes.names()
    assert recipes.find(recipe.name) is recipe
    assert recipe.task in get_args(Task)
    assert recipe.description
    assert "\n" not in recipe.description
    assert len(recipe.all_outputs) == (4 if recipe.task == "classification" else 1)
    assert (recipe.task == "classification") == bool(recipe.labels)
    assert recipe.serving.engine in ENGINES


def test_its_hyperparameters_are_frozen_and_can_be_written_down(recipe: Recipe[Any]) -> None:
    assert recipe.preset(None) is next(iter(recipe.presets.values()))
    for name, hp in recipe.presets.items():
        assert recipe.preset(name) is hp
        assert isinstance(hp, Hyperparameters)
        assert msgspec.json.decode(msgspec.json.encode(asdict(hp))).keys() == {field.name for field in fields(hp)}
        with pytest.raises(FrozenInstanceError):
            hp.lr = 1.0  # type: ignore[misc]


def test_an_unknown_preset_is_an_error_that_lists_those_there_are(recipe: Recipe[Any]) -> None:
    with pytest.raises(KeyError, match=f"{recipe.name} has no preset 'huge'; it has {next(iter(recipe.presets))}"):
        recipe.preset("huge")


def test_its_data_is_what_its_contract_says(recipe: Recipe[Any], data: Data) -> None:
    assert len(data.sha256) == 64
    for split in splits(data):
        rows = len(split)
        assert rows > 0
        assert tuple(split.inputs) == tuple(spec.name for spec in data.inputs)
        for spec in data.inputs:
            assert spec.datatype in DTYPES
            check_values(spec, split.inputs[spec.name], rows)


def test_its_texts_are_there_beside_their_tokens(data: Data) -> None:
    texts = {spec.name for spec in data.inputs if spec.datatype == "BYTES" and not spec.categories}
    for split in splits(data):
        assert split.texts.keys() == texts
        for column in split.texts.values():
            assert len(column) == len(split)
            assert all(isinstance(text, str) and text.strip() for text in column)


def test_its_slices_name_every_held_out_row(data: Data) -> None:
    if data.test.slices is not None:
        assert len(data.test.slices) == len(data.test)
        assert all(data.test.slices)


def test_its_targets_are_values_or_class_indices(recipe: Recipe[Any], data: Data) -> None:
    for split in splits(data):
        assert split.target.shape == (len(split),)
        assert np.isfinite(split.target).all()
        if recipe.task == "classification":
            assert split.target.dtype == np.int64
            assert 0 <= split.target.min() <= split.target.max() < len(recipe.labels)
        else:
            assert split.target.dtype == np.float32
    assert data.test.weight is None
    if data.train.weight is not None:
        assert data.train.weight.shape == data.train.target.shape
        assert data.train.weight.dtype == np.float32
        assert data.train.weight.min() >= 0 < data.train.weight.max()


def test_what_is_held_out_shares_no_memory_with_what_is_fitted(data: Data) -> None:
    others = splits(data)[1:]
    for name, fitted in data.train.inputs.items():
        assert not any(np.shares_memory(fitted, other.inputs[name]) for other in others)


def test_loading_again_gives_the_same(recipe: Recipe[Any], data: Data) -> None:
    again = load.__wrapped__(recipe)
    assert again.sha256 == data.sha256
    assert again.inputs == data.inputs
    for one, other in zip(splits(again), splits(data), strict=True):
        np.testing.assert_array_equal(one.target, other.target)
        for name, values in one.inputs.items():
            np.testing.assert_array_equal(values, other.inputs[name])


def test_its_module_gives_one_finite_output_a_row(recipe: Recipe[Any], data: Data) -> None:
    module = recipe.module(recipe.preset(quickest(recipe)), data).eval()
    for rows in (1, 3):
        with torch.inference_mode():
            output = module(*to_tensors(data.test.head(rows)))
        assert tuple(output.shape) == output_shape(recipe, rows)
        assert output.dtype == torch.float32
        assert output.isfinite().all()


def test_augmentation_keeps_shapes_types_and_the_data_itself(recipe: Recipe[Any], data: Data) -> None:
    before = to_tensors(data.train.head(5))
    kept = [tensor.clone() for tensor in before]
    for hp in recipe.presets.values():
        after = recipe.augment(list(before), hp)
        assert [(t.shape, t.dtype) for t in after] == [(t.shape, t.dtype) for t in kept]
    assert all(torch.equal(one, other) for one, other in zip(before, kept, strict=True))


def test_its_loss_is_one_number_a_row_that_falls_with_the_error(recipe: Recipe[Any], data: Data) -> None:
    hp = recipe.preset(None)
    target = torch.from_numpy(data.test.head(3).target)
    if recipe.task == "classification":
        right = 10 * torch.eye(len(recipe.labels))[target]  # (3, classes) logits
        wrong = right.roll(1, 1)
    else:
        right, wrong = target, target + 1
    loss, worse = recipe.loss(right, target, hp), recipe.loss(wrong, target, hp)
    assert loss.shape == (3,)
    assert (loss < worse).all()


def test_it_has_baselines_to_beat(recipe: Recipe[Any], data: Data) -> None:
    baselines = recipe.baselines(data)
    assert baselines
    for output in baselines.values():
        assert output.shape == output_shape(recipe, len(data.test))
        assert np.isfinite(output).all()


def test_it_trains_to_a_champion_that_answers_its_example(recipe: Recipe[Any], trained: Trainings) -> None:
    result = trained(recipe)
    contract = trained.registry.champion_contract(recipe.name)  # checks the archive's SHA-256
    assert contract == ModelContract.from_json(result.contract.to_json())
    assert contract.version == "1.0"
    assert contract.inputs == load(recipe).inputs
    assert contract.outputs == recipe.all_outputs
    answer = contract.example.response["prediction"]
    if recipe.task == "classification":
        assert same_answer(answer["label"], recipe.labels[answer["index"]])
    else:
        assert isinstance(answer, float)


def test_it_is_evaluated_beside_its_baselines(recipe: Recipe[Any], trained: Trainings) -> None:
    evaluation = document(trained(recipe).contract.evaluation)
    data = load(recipe)
    assert evaluation["rows"] == len(data.test)
    assert evaluation["baselines"].keys() == recipe.baselines(data).keys()
    assert evaluation["primary"] in evaluation["metrics"]
    assert all(np.isfinite(value) for value in evaluation["metrics"].values())
    slices = evaluation.get("slices", {})
    assert set(slices) == set([] if data.test.slices is None else data.test.slices.tolist())
    assert sum(one["rows"] for one in slices.values()) == (len(data.test) if slices else 0)


def test_names_are_those_of_the_files() -> None:
    assert {"chat", "fashion", "flights", "linear", "sentiment"} <= set(recipes.names())
    assert recipes.names() == sorted(recipes.names())


def test_an_extra_of_a_recipes_name_is_what_it_needs(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\n[project.optional-dependencies]\nwine = ["numpy>=2", "no.such_one[x]==1"]\n')
    assert recipes.extra("wine", project) == ["numpy", "no.such_one"]
    assert recipes.missing("wine", project).startswith("wine needs no.such_one: run `pip install ")
    assert recipes.extra("linear", project) == []
    assert recipes.missing("linear", project) == ""


def test_an_unknown_recipe_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(KeyError, match="there is no recipe 'wine'; there are .*linear"):
        recipes.find("wine")
