"""L1, early stopping and the schedules of the learning rate, as the fit applies them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import load
from training.fitting.fit import fit, scheduler
from training.packaging.export import predict
from training.recipe import Data, Hyperparameters, Trained
from training.recipes.linear import Linear

HP: Hyperparameters = Quadrants.presets["default"]


def fit_quadrants(folder: Path, data: Data | None = None, **changes: Any) -> Trained:
    data = data or load(Quadrants())
    return fit(Quadrants(), replace(HP, **changes), data, folder, callbacks=())


def weights(trained: Trained) -> torch.Tensor:
    return torch.cat([values.detach().flatten() for values in trained.module.parameters() if values.ndim > 1])


def rates(schedule: Any, steps: int = 100) -> list[float]:
    """The learning rate of each step."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], 1.0)
    hp = Hyperparameters(epochs=1, batch_size=1, lr=1.0, schedule=schedule)
    found = scheduler(hp, optimizer, steps)
    assert found
    seen = []
    for _ in range(steps):
        seen.append(float(found.get_last_lr()[0]))
        optimizer.step()
        found.step()
    return seen


def test_l1_leaves_smaller_weights_and_more_of_next_to_nothing(tmp_path: Path) -> None:
    free, bound = (weights(fit_quadrants(tmp_path, l1=l1, epochs=40)) for l1 in (0.0, 0.01))
    assert bound.abs().sum() < 0.7 * free.abs().sum()
    assert (bound.abs() < 0.01).sum() > (free.abs() < 0.01).sum() + 5


def test_l1_is_no_part_of_the_loss_that_is_shown(tmp_path: Path) -> None:
    free, bound = (fit_quadrants(tmp_path, l1=l1, epochs=1, lr=1e-9).history[0]["loss"] for l1 in (0.0, 1.0))
    assert bound == pytest.approx(free, rel=1e-4)


def random_labels(data: Data) -> Data:
    """What is fitted has nothing to do with what is watched, so that watching sees it get worse."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 4, (len(data.train),), generator=generator).numpy()
    return replace(data, train=replace(data.train, target=target))


def test_early_stopping_stops_and_goes_back_to_the_best_weights(tmp_path: Path) -> None:
    data = random_labels(load(Quadrants()))
    trained = fit_quadrants(tmp_path, data, epochs=50, patience=3)
    losses = [entry["val_loss"] for entry in trained.history]
    assert 4 <= len(losses) < 50
    assert len(losses) == losses.index(min(losses)) + 1 + 3
    assert data.validation
    logits = torch.from_numpy(predict(trained.module, data.validation))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.validation.target))
    assert loss.item() == pytest.approx(min(losses), rel=1e-5)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_without_patience_all_epochs_are_made(tmp_path: Path) -> None:
    trained = fit_quadrants(tmp_path, random_labels(load(Quadrants())), epochs=12)
    assert len(trained.history) == 12


def test_early_stopping_without_validation_rows_is_an_error_that_says_so(tmp_path: Path) -> None:
    hp = replace(Linear.presets["default"], patience=2)
    with pytest.raises(ValueError, match="linear has no validation rows, so that patience=2 has nothing to watch"):
        fit(Linear(), hp, load(Linear()), tmp_path)


def test_a_constant_rate_needs_no_schedule() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    assert scheduler(Hyperparameters(1, 1, 0.1), optimizer, 10) is None


def test_step_decay_divides_the_rate_by_ten_at_the_half_and_at_three_quarters() -> None:
    seen = rates("step")
    assert seen[49] == 1
    assert seen[50] == pytest.approx(0.1)
    assert seen[74] == pytest.approx(0.1)
    assert seen[75] == pytest.approx(0.01)


def test_a_cosine_falls_all_the_way_to_nothing() -> None:
    seen = rates("cosine")
    assert seen[0] == 1
    assert seen[50] == pytest.approx(0.5)
    assert seen[-1] < 0.001
    assert seen == sorted(seen, reverse=True)


def test_warm_restarts_are_back_at_the_highest_rate_after_a_third() -> None:
    seen = rates("restarts", 99)
    assert [i for i, rate in enumerate(seen) if rate == pytest.approx(1)] == [0, 33]
    assert seen[32] < 0.01
    assert seen[98] < 0.01


def test_one_cycle_rises_and_falls() -> None:
    seen = rates("one_cycle")
    highest = seen.index(max(seen))
    assert max(seen) == pytest.approx(1, abs=0.01)
    assert 25 < highest < 35
    assert seen[0] < 0.1
    assert seen[-1] < 0.001


@pytest.mark.parametrize("schedule", ["step", "restarts"])
def test_the_fit_follows_the_schedule_to_its_end(tmp_path: Path, schedule: Any) -> None:
    history = fit_quadrants(tmp_path, schedule=schedule).history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
