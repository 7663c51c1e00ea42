"""Hyperparameter search by Optuna: trials near a preset, bad ones pruned, the best written as the preset `found`.

marloop search fashion --trials 30 --timeout 600
"""

import contextlib
import math
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import pytorch_lightning as lightning
from optuna.trial import FrozenTrial, TrialState
from pytorch_lightning.callbacks import Callback

from serving import documents
from serving.settings import Folders
from training import fit
from training.figures.machine import machine
from training.improve.budget import Budget, load_thinned, measure, spent, watch
from training.improve.search_report import BEST, Search, Training, TrialRow, gain
from training.recipe import Data, Recipe

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
PRESET, PROCESS = "preset", "process"  # attributes of a trial: whether it is the preset's, and the process of it
UNREPORTED = 60.0  # s after which a trial that has not reported its process counts as killed
FOR_IMPORTANCE = 8  # least complete trials: fewer say nothing of what matters


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


def open_study(
    recipe: Recipe[Any],
    hp: Any,
    data: Data,
    runs: Path,
    seed: int | None = None,
    step: Callable[[str], None] = lambda text: None,
) -> optuna.Study:
    """Open the study of a model with a budget: a new one, or that of an earlier run's SQLite file.

    Several processes may have it open at once. Its first trial is the preset itself, so that the best is no worse; it
    is tried again where it was killed. A damaged file is put aside and reported.

    Args:
        hp: the preset that is searched around.
        data: another number of rows is another study, as is another metric that decides.
        runs: folder of the file ``search-MODEL.db``.
        seed: the sampler's; None for another in every process.
    """
    runs.mkdir(parents=True, exist_ok=True)
    database, key = runs / f"search-{recipe.name}.db", recipe.scoring.key
    _put_aside_if_damaged(database, step)
    study = optuna.create_study(
        storage=optuna.storages.RDBStorage(f"sqlite:///{database}"),
        study_name=" ".join(filter(None, [f"{len(data.train)} rows {hp.epochs} epochs", fit.key(hp, data), key])),
        direction="maximize" if recipe.scoring.criterion.more else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
        load_if_exists=True,
    )
    _end_killed(study, step)
    begun = study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING, TrialState.WAITING))
    if not any(trial.number == 0 or trial.user_attrs.get(PRESET) for trial in begun):
        # Text and numbers only: Optuna ignores values that are not suggested.
        values = {name: value for name, value in asdict(hp).items() if isinstance(value, int | float | str)}
        study.enqueue_trial(values, user_attrs={PRESET: True})
    return study


def _put_aside_if_damaged(database: Path, step: Callable[[str], None]) -> None:
    """Rename a file that is no SQLite database any more, so that the search begins anew."""
    if not database.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            (fault,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:  # such as a lock: this says nothing of the content
        fault = str(error) if "malformed" in str(error) else "ok"
    except sqlite3.DatabaseError as error:
        fault = str(error)
    if fault != "ok":
        aside = database.with_name(f"{database.name}.damaged-{time.time_ns()}")
        database.rename(aside)
        for other in (f"{database}-wal", f"{database}-journal", f"{database}-shm"):
            Path(other).unlink(missing_ok=True)
        step(f"{database} is damaged ({fault}): it is kept as {aside.name}, and the search begins anew")


def _end_killed(study: optuna.Study, step: Callable[[str], None]) -> None:
    """Mark the trials of killed processes of this machine as failed; else they would count as running for ever."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _runs(trial):
            study.tell(trial.number, state=TrialState.FAIL)
            step(f"trial {trial.number} was killed")


def _runs(trial: FrozenTrial) -> bool:
    host, id, started = trial.user_attrs.get(PROCESS, ("", 0, 0.0))
    if not host:  # it has reported nothing yet, or never will
        begun = trial.datetime_start
        return begun is not None and (datetime.now() - begun).total_seconds() < UNREPORTED
    if host != platform.node():
        return True
    try:
        return bool(abs(psutil.Process(id).create_time() - started) < 1)
    except psutil.NoSuchProcess:
        return False


def run_trials(
    study: optuna.Study, recipe: Recipe[Any], hp: Any, data: Data, budget: Budget, step: Callable[[str], None]
) -> None:
    """Run trials until the study has the budget's number, those of other processes and earlier runs included.

    Args:
        hp: the preset that is searched around.
        budget: complete and pruned trials count.
    """
    watched, callbacks = watch(recipe)

    def objective(trial: optuna.Trial) -> float:
        process = psutil.Process()
        trial.set_user_attr(PROCESS, (platform.node(), process.pid, process.create_time()))
        with tempfile.TemporaryDirectory() as folder:
            suggested = recipe.space(trial, hp)
            pruning = [*callbacks, Pruning(trial, watched)]
            trained = fit.fit(recipe, suggested, data, Path(folder), callbacks=pruning)
        return trained.history[-1][watched]

    def report(study: optuna.Study, trial: FrozenTrial) -> None:
        last = list(trial.intermediate_values.values())[-1:]
        value = ", ".join(f"{value:.4f}" for value in last)
        took = trial.duration.total_seconds() if trial.duration else 0.0
        step(f"trial {trial.number} {trial.state.name.lower()}: {watched} {value}, {took:.0f} s")

    if len(study.get_trials(deepcopy=False, states=FINISHED)) < budget.trials:
        enough = optuna.study.MaxTrialsCallback(budget.trials, states=FINISHED)
        timeout = None if math.isinf(budget.timeout) else budget.timeout
        study.optimize(objective, timeout=timeout, callbacks=[report, enough])


def search(
    recipe: Recipe[Any],
    folders: Folders,
    budget: Budget,
    preset: str | None = None,
    seed: int | None = None,
    step: Callable[[str], None] = lambda text: None,
) -> Search:
    """Search around a preset, then train the best and the preset alike, with seeds that the search has not used.

    Args:
        preset: the one to search around; None for the default.
        seed: the sampler's; None for another in every process.

    Raises:
        KeyError: no such preset.
        DataError: the data cannot be had.
        ValueError: no trial was completed, or the rows do not tell the metric that decides.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    hp = recipe.preset(preset)
    hp = replace(hp, epochs=budget.epochs or hp.epochs)
    data = load_thinned(recipe, hp, folders.cache, budget.rows)
    study = open_study(recipe, hp, data, folders.runs, seed, step)
    run_trials(study, recipe, hp, data, budget, step)
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise ValueError("no trial was completed: give the search more time, or fewer rows or epochs")
    best = study.best_trial
    step(f"comparing trial {best.number} with the preset, {budget.seeds} seeds each")
    name = preset or next(iter(recipe.presets))
    compared = _compare(recipe, {name: hp, BEST: replace(hp, **best.params)}, data, budget.seeds)
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


def _compare(recipe: Recipe[Any], presets: Mapping[str, Any], data: Data, seeds: int) -> list[Training]:
    rows = []
    for name, hp in presets.items():
        for seed in range(hp.seed + 1, hp.seed + 1 + seeds):
            with tempfile.TemporaryDirectory() as folder:
                trained = fit.fit(recipe, replace(hp, seed=seed), data, Path(folder), callbacks=())
            assert data.validation
            watched, test = (measure(trained, split) for split in (data.validation, data.test))
            rows.append(Training(preset=name, seed=seed, validation=watched, test=test, seconds=trained.seconds))
    return rows


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
