"""Hyperparameter search by Optuna: trials near a preset, bad ones pruned, the best written as the preset `found`.

marloop search fashion --trials 30 --timeout 600
"""

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytorch_lightning as lightning
from optuna.trial import FrozenTrial, TrialState
from pytorch_lightning.callbacks import Callback

from serving import documents
from serving.settings import Folders
from training.figures.machine import machine
from training.fitting import fit
from training.improve.budget import Budget, load_thinned, measure, spent, watch
from training.improve.search_report import BEST, Search, Training, TrialRow, gain
from training.improve.sharing import study as studies
from training.improve.sharing.results import Results, key_of, results_of, train_all
from training.improve.sharing.study import FINISHED
from training.recipe import Data, Recipe

FOR_IMPORTANCE = 8  # least complete trials: fewer say nothing of what matters
GIVEN_AWAY = "Cannot tell a"  # Optuna's words for a trial that another worker has marked as failed


class Pruning(Callback):
    """A callback that reports a trial to Optuna after each epoch, and ends it when Optuna prunes it."""

    def __init__(self, trial: optuna.Trial, watched: str) -> None:
        self._trial, self._watched = trial, watched

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report the watched value.

        Raises:
            TrialPruned: the trial is worse than the median of earlier trials at this epoch.
        """
        self._trial.report(float(trainer.callback_metrics[self._watched]), trainer.current_epoch + 1)
        if self._trial.should_prune():
            raise optuna.TrialPruned


class Worker:
    """Runs trials of a study, of which other workers may run others.

    Args:
        hp: the preset that is searched around.
        step: receives a line for each trial.
    """

    def __init__(
        self, study: optuna.Study, recipe: Recipe[Any], hp: Any, data: Data, step: Callable[[str], None]
    ) -> None:
        self._study, self._recipe, self._hp, self._data, self._step = study, recipe, hp, data, step
        self._watched, self._callbacks = watch(recipe)
        self._number = 0  # of the trial that runs

    def run(self, budget: Budget) -> None:
        """Run trials until the study has the budget's number, those of others and of earlier runs included.

        Args:
            budget: complete and pruned trials count.
        """
        until = budget.clock() + budget.timeout
        enough = optuna.study.MaxTrialsCallback(budget.trials, states=FINISHED)
        while not self.has_enough(budget.trials) and budget.clock() < until:
            timeout = None if math.isinf(until) else max(0.0, until - budget.clock())
            try:
                self._study.optimize(self._objective, timeout=timeout, callbacks=[self._report, enough])
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError) as error:
                if isinstance(error, ValueError) and not str(error).startswith(GIVEN_AWAY):
                    raise
                self._step(f"trial {self._number} is tried again: this worker showed no sign of life for too long")

    def has_enough(self, trials: int) -> bool:
        """Tell whether the trials are there, and none is the preset's that is to be tried again."""
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        finished = self._study.get_trials(deepcopy=False, states=FINISHED)
        return len(finished) >= trials and not any(trial.user_attrs.get(studies.PRESET) for trial in waiting)

    def _objective(self, trial: optuna.Trial) -> float:
        self._number = trial.number
        studies.mark(trial)
        with tempfile.TemporaryDirectory() as folder:
            suggested = self._recipe.space(trial, self._hp)
            pruning = [*self._callbacks, Pruning(trial, self._watched)]
            trained = fit.fit(self._recipe, suggested, self._data, Path(folder), callbacks=pruning)
        return trained.history[-1][self._watched]

    def _report(self, study: optuna.Study, trial: FrozenTrial) -> None:
        last = list(trial.intermediate_values.values())[-1:]
        value = ", ".join(f"{value:.4f}" for value in last)
        took = trial.duration.total_seconds() if trial.duration else 0.0
        self._step(f"trial {trial.number} {trial.state.name.lower()}: {self._watched} {value}, {took:.0f} s")


def search(
    recipe: Recipe[Any],
    folders: Folders,
    budget: Budget,
    preset: str | None = None,
    seed: int | None = None,
    step: Callable[[str], None] = lambda text: None,
    url: str = "",
) -> Search:
    """Search around a preset, then train the best and the preset alike, with seeds that the search has not used.

    Args:
        preset: the one to search around; None for the default.
        seed: the sampler's; None for another in every process.
        url: of the PostgreSQL that workers on several machines share; empty for a file of ``folders``.

    Raises:
        KeyError: no such preset.
        DataError: the data cannot be had.
        ValueError: no trial was completed, or the rows do not tell the metric that decides.
        SQLAlchemyError, StorageInternalError: the shared database does not answer; see ``database.reachable``.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    hp = recipe.preset(preset)
    hp = replace(hp, epochs=budget.epochs or hp.epochs)
    data = load_thinned(recipe, hp, folders.cache, budget.rows)
    study = studies.open_study(recipe, hp, data, folders.runs, seed, step, url)
    worker = Worker(study, recipe, hp, data, step)
    worker.run(budget)
    if url and worker.has_enough(budget.trials):
        studies.await_others(study, step)
        worker.run(budget)  # the preset, where its worker was killed
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise ValueError("no trial was completed: give the search more time, or fewer rows or epochs")
    best = study.best_trial
    step(f"comparing trial {best.number} with the preset, {budget.seeds} seeds each")
    name = preset or next(iter(recipe.presets))
    results = results_of("search", recipe.name, folders.runs, url)
    compared = _compare(recipe, {name: hp, BEST: replace(hp, **best.params)}, data, budget.seeds, results)
    trials = [_trial(trial) for trial in study.get_trials(deepcopy=False) if trial.state in FINISHED]
    metric = recipe.scoring.criterion.name
    return Search(
        model=recipe.name,
        seconds=round(sum(trial.seconds for trial in trials) + sum(row.seconds for row in compared), 1),
        machine=machine(),
        metric=metric,
        budget=spent(data, budget.seeds, hp.epochs),
        preset=name,
        found=best.params,
        hyperparameters=asdict(replace(recipe.preset(preset), **best.params)),
        rows=compared,
        trials=trials,
        importance=_importance(study),
        better=bool(np.mean(gain(metric, compared, "validation")) > 0),
    )


def write_preset(recipe: Recipe[Any], hyperparameters: Mapping[str, Any]) -> Path:
    """Write hyperparameters where the recipe reads them as the preset ``found``; returns the path."""
    recipe.found_folder.mkdir(parents=True, exist_ok=True)
    documents.write_json(recipe.found_file, hyperparameters, dict[str, Any], private=False)
    return recipe.found_file


def _compare(
    recipe: Recipe[Any], presets: Mapping[str, Any], data: Data, seeds: int, results: Results
) -> list[Training]:
    trainings: dict[str, Callable[[], Training]] = {}
    for name, hp in presets.items():
        for seed in range(hp.seed + 1, hp.seed + 1 + seeds):
            seeded = replace(hp, seed=seed)
            key = f"{key_of(recipe, seeded, data)}-{'best' if name == BEST else f'preset-{name}'}"
            trainings[key] = partial(_train, recipe, name, seeded, data)
    return list(train_all(results, trainings, Training).values())


def _train(recipe: Recipe[Any], name: str, hp: Any, data: Data) -> Training:
    with tempfile.TemporaryDirectory() as folder:
        trained = fit.fit(recipe, hp, data, Path(folder), callbacks=())
    assert data.validation
    watched, test = (measure(trained, split) for split in (data.validation, data.test))
    return Training(preset=name, seed=hp.seed, validation=watched, test=test, seconds=trained.seconds)


def _trial(trial: FrozenTrial) -> TrialRow:
    values = trial.intermediate_values
    return TrialRow(
        number=trial.number,
        state=trial.state.name.lower(),
        epochs=len(values),
        value=values[max(values)],
        seconds=round(trial.duration.total_seconds() if trial.duration else 0.0, 1),
        figures=trial.params,
    )


def _importance(study: optuna.Study) -> dict[str, float]:
    """Return each hyperparameter's share of the differences between trials (fANOVA, Hutter et al. 2014)."""
    values = [trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
    if len(values) < FOR_IMPORTANCE or len(set(values)) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    weights = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(weight) for name, weight in weights.items()}
