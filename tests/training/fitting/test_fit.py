import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import load
from tests.training.fitting.commands import command
from training.fitting.fit import fit
from training.packaging.export import predict, serving_module
from training.recipe import Data, Hyperparameters, Split, Trained
from training.recipes.linear import Linear, LinearHyperparameters

HP: LinearHyperparameters = Linear.presets["default"]


class Interrupted(Linear):
    """As linear, but for a signal at one step, which is one epoch: all five points are a batch."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGINT) -> None:
        self._left, self._signal = step, number

    def augment(self, inputs: list[Tensor], hp: LinearHyperparameters) -> list[Tensor]:
        """Send it, as Ctrl-C does."""
        self._left -= 1
        if self._left == 0:
            signal.raise_signal(self._signal)  # for this thread: another would deliver it at any later place
        return inputs


class Counting(Linear):
    """As linear, and counts its steps."""

    steps = 0

    def augment(self, inputs: list[Tensor], hp: LinearHyperparameters) -> list[Tensor]:
        """Count one."""
        self.steps += 1
        return inputs


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Ctrl-C interrupts as in a terminal, to which a shell's background job is deaf; nothing ends the tests."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: None),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def fit_linear(recipe: Linear, runs: Path, hp: Hyperparameters = HP) -> Trained:
    return fit(recipe, hp, load(Linear()), runs)


def interrupt(recipe: Interrupted, runs: Path, hp: Hyperparameters = HP) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit_linear(recipe, runs, hp)


def checkpoints(runs: Path) -> list[Path]:
    return [path for path in runs.rglob("*") if path.is_file()]


def weights(trained: Trained) -> dict[str, Any]:
    return {name: values.numpy() for name, values in trained.module.state_dict().items()}


def test_fitting_twice_gives_the_same_weights(tmp_path: Path) -> None:
    first, second = (fit(Quadrants(), q.preset(None), load(q), tmp_path) for q in (Quadrants(), Quadrants()))
    for name, values in weights(first).items():
        np.testing.assert_array_equal(values, weights(second)[name])
    assert first.history == second.history


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    first, second = (fit_linear(Linear(), tmp_path, replace(HP, epochs=1, seed=seed)) for seed in (0, 1))
    assert weights(first)["linear.weight"] != weights(second)["linear.weight"]


def test_the_learning_curve_has_every_epoch_and_what_was_watched(tmp_path: Path) -> None:
    trained = fit(Quadrants(), Quadrants.presets["default"], load(Quadrants()), tmp_path)
    assert [entry["epoch"] for entry in trained.history] == list(range(1, 11))
    assert trained.history[0].keys() == {
        "epoch",
        "loss",
        "val_loss",
        "val_accuracy",
        "gradient_norm",
        "learning_rate",
    }
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]
    assert trained.history[-1]["val_accuracy"] > 0.8


def test_what_was_watched_is_the_loss_and_accuracy_of_the_validation_rows(tmp_path: Path) -> None:
    data = load(Quadrants())
    trained = fit(Quadrants(), Quadrants.presets["default"], data, tmp_path)
    assert data.validation is not None
    logits = torch.from_numpy(predict(trained.module, data.validation))
    target = torch.from_numpy(data.validation.target)
    last = trained.history[-1]
    assert last["val_loss"] == pytest.approx(nn.functional.cross_entropy(logits, target).item(), rel=1e-5)
    assert last["val_accuracy"] == pytest.approx((logits.argmax(1) == target).float().mean().item())


def test_the_fitted_module_is_ready_to_be_used(tmp_path: Path) -> None:
    trained = fit_linear(Linear(), tmp_path)
    assert not trained.module.training
    assert trained.seconds > 0
    assert predict(serving_module(trained), Split({"x": np.array([6], np.float32)}, np.zeros(1)))[0] == pytest.approx(
        12.0, abs=0.05
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_every_optimizer_learns_with_every_schedule(tmp_path: Path, optimizer: Any, schedule: Any) -> None:
    hp = LinearHyperparameters(epochs=40, batch_size=2, lr=0.02, optimizer=optimizer, schedule=schedule)
    history = fit_linear(Linear(), tmp_path, hp).history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_a_row_without_weight_teaches_nothing(tmp_path: Path) -> None:
    data = load(Linear())
    x = np.append(data.train.inputs["x"], np.array([1, 2], np.float32))
    y = np.append(data.train.target, np.array([-50, 90], np.float32))
    weight = np.array([1, 1, 1, 1, 1, 0, 0], np.float32)
    misleading = replace(data, train=Split({"x": x}, y, weight))
    trained = fit(Linear(), replace(HP, batch_size=7), misleading, tmp_path)
    assert weights(trained)["linear.weight"].item() == pytest.approx(2, abs=0.01)


def test_an_epoch_sees_every_row_once_in_batches_of_the_given_size(tmp_path: Path) -> None:
    recipe = Counting()
    fit_linear(recipe, tmp_path, replace(HP, epochs=4, batch_size=2))
    assert recipe.steps == 4 * 3  # two, two and one


def test_progress_is_at_most_twenty_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit_linear(Linear(), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20
    assert lines[0].startswith("epoch 15/300 loss ")
    assert lines[-1].startswith("epoch 300/300 loss ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_from_its_last_checkpoint_and_ends_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    interrupt(Interrupted(100, number), tmp_path)
    (checkpoint,) = checkpoints(tmp_path)
    assert "going on" not in capsys.readouterr().out

    recipe = Counting()
    trained = fit_linear(recipe, tmp_path)
    assert f"going on from {checkpoint}" in capsys.readouterr().out
    assert recipe.steps == 300 - 90  # a checkpoint every 15 epochs
    assert [entry["epoch"] for entry in trained.history] == list(range(1, 301))
    uninterrupted = fit_linear(Linear(), tmp_path / "other")
    for name, values in weights(uninterrupted).items():
        np.testing.assert_allclose(weights(trained)[name], values, atol=1e-5)
    assert trained.history[89] == uninterrupted.history[89]
    assert trained.history[200]["loss"] == pytest.approx(uninterrupted.history[200]["loss"], abs=1e-6)


def test_a_run_that_is_interrupted_again_and_again_arrives(tmp_path: Path) -> None:
    for _ in range(3):
        interrupt(Interrupted(100), tmp_path)
        assert len(checkpoints(tmp_path)) == 1
    recipe = Counting()
    fit_linear(recipe, tmp_path)
    assert recipe.steps == 300 - 3 * 90
    assert checkpoints(tmp_path) == []


def test_a_schedule_goes_on_where_it_was(tmp_path: Path) -> None:
    hp = LinearHyperparameters(epochs=40, batch_size=5, lr=0.01, optimizer="sgd", schedule="one_cycle")
    interrupt(Interrupted(20), tmp_path, hp)
    resumed = fit_linear(Linear(), tmp_path, hp)
    uninterrupted = fit_linear(Linear(), tmp_path / "other", hp)
    for name, values in weights(uninterrupted).items():
        np.testing.assert_allclose(weights(resumed)[name], values, atol=1e-5)


def test_ctrl_c_works_again_after_it_was_pressed(tmp_path: Path) -> None:
    interrupt(Interrupted(1), tmp_path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interruption_before_the_first_checkpoint_leaves_none(tmp_path: Path) -> None:
    interrupt(Interrupted(1), tmp_path)
    assert checkpoints(tmp_path) == []


def test_the_checkpoint_is_removed_at_the_end(tmp_path: Path) -> None:
    fit_linear(Linear(), tmp_path)
    assert checkpoints(tmp_path) == []


def other_data(data: Data) -> Data:
    return replace(data, sha256="0" * 64)


def test_other_hyperparameters_or_data_do_not_pick_up_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(Interrupted(100), tmp_path)
    (checkpoint,) = checkpoints(tmp_path)
    others = [Counting(), Counting()]
    fit_linear(others[0], tmp_path, replace(HP, lr=0.011))
    fit(others[1], HP, other_data(load(Linear())), tmp_path)
    assert [recipe.steps for recipe in others] == [300, 300]
    assert "going on" not in capsys.readouterr().out
    assert checkpoints(tmp_path) == [checkpoint]


def test_a_killed_command_goes_on_when_called_again_and_ctrl_c_says_how_to_go_on(
    tmp_path: Path,
) -> None:
    runs = tmp_path / "runs"
    train = ("train", "flights", f"--store={tmp_path / 'store'}", f"--runs={runs}")  # takes seconds to fit
    with command(*train) as first:
        first.read_until("epoch 6/20 ")
        first.process.kill()
        assert first.end() == -signal.SIGKILL
    (checkpoint,) = checkpoints(runs)

    with command(*train) as second:
        second.read_until("epoch 9/20 ")
        second.process.send_signal(signal.SIGINT)
        assert second.end() == 130, second.output
    assert f"going on from {checkpoint}" in second.output
    epochs = [int(number) for number in re.findall(r"^epoch (\d+)/20 ", second.output, re.MULTILINE)]
    assert epochs[0] in (6, 7)  # it is killed about when the checkpoint of epoch 6 is written
    assert epochs == list(range(epochs[0], epochs[-1] + 1))
    way_on = f"interrupted; the same command goes on from the last checkpoint in {os.path.relpath(runs)}"
    assert second.output.splitlines()[-1] == way_on
    assert "Traceback" not in second.output
    assert checkpoints(runs) == [checkpoint]
    assert not (tmp_path / "store").exists()


def interrupted(runs: Path, hp: Hyperparameters = HP) -> Path:
    """The checkpoint of a run that was interrupted."""
    interrupt(Interrupted(step=40), runs, hp)
    (checkpoint,) = checkpoints(runs)
    return checkpoint


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    path.write_bytes(content)


def of_something_else(path: Path) -> None:
    torch.save({"weights": [1, 2, 3]}, path)


def of_another_network(path: Path) -> None:
    content = torch.load(path, weights_only=False)
    content["state_dict"] = {name: values[..., None] for name, values in content["state_dict"].items()}
    torch.save(content, path)


@pytest.mark.parametrize("damage", [cut, empty, flip, of_something_else, of_another_network])
def test_a_run_whose_checkpoint_is_damaged_says_so_and_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    hp = replace(HP, epochs=60)
    whole = fit_linear(Linear(), tmp_path / "other", hp)
    checkpoint = interrupted(tmp_path, hp)
    damage(checkpoint)
    capsys.readouterr()
    trained = fit_linear(Linear(), tmp_path, hp)
    output = " ".join(capsys.readouterr().out.split())
    assert f"{checkpoint} cannot be gone on from, so that training begins anew: " in output
    assert "going on from" not in output
    assert all((values == weights(trained)[name]).all() for name, values in weights(whole).items())
    assert checkpoints(tmp_path) == []
