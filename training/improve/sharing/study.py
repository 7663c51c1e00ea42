"""The study of a search: its trials in SQLite, or in a PostgreSQL that workers on several machines share."""

import contextlib
import copy
import platform
import sqlite3
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import psutil
from filelock import FileLock
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from training.fitting import fit
from training.improve.sharing.database import alone_with, connect, connection_options
from training.recipe import Data, Recipe

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
PRESET, PROCESS = "preset", "process"  # attributes of a trial: whether it is the preset's, and the process of it
UNREPORTED = 60.0  # s after which a trial that has not reported its process counts as killed
HEARTBEAT, GRACE = 10, 60  # s between two signs of life of a trial in PostgreSQL, and after which it counts as killed
RETRIES = 3  # of a trial whose process was killed
PAUSE = 1.0  # s between two looks at trials that others run


def open_study(
    recipe: Recipe[Any],
    hp: Any,
    data: Data,
    runs: Path,
    seed: int | None = None,
    step: Callable[[str], None] = lambda text: None,
    url: str = "",
) -> optuna.Study:
    """Open the study of a model with a budget: a new one, or that of earlier runs and other workers.

    Several processes may have it open at once. Its first trial is the preset itself, so that the best is no worse. A
    trial whose process was killed is tried again. A damaged file is put aside and reported.

    Args:
        hp: the preset that is searched around.
        data: another number of rows is another study, as is another metric that decides.
        runs: folder of the file ``search-MODEL.db``, where there is no URL.
        seed: the sampler's; None for another in every process.
        url: the shared database's, for SQLAlchemy; empty for none.
    """
    file = runs / f"search-{recipe.name}.db"
    with _alone(file, url):
        if not url:
            _put_aside_if_damaged(file, step)
        study = optuna.create_study(
            storage=_shared(url) if url else RDBStorage(f"sqlite:///{file}"),
            study_name=_name(recipe, hp, data, shared=bool(url)),
            direction="maximize" if recipe.scoring.criterion.more else "minimize",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
            load_if_exists=True,
        )
        end_killed(study, step)
        begun = study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING, TrialState.WAITING))
        if not any(trial.number == 0 or trial.user_attrs.get(PRESET) for trial in begun):
            # Text and numbers only: Optuna ignores values that are not suggested.
            values = {name: value for name, value in asdict(hp).items() if isinstance(value, int | float | str)}
            study.enqueue_trial(values, user_attrs={PRESET: True})
    return study


def _name(recipe: Recipe[Any], hp: Any, data: Data, shared: bool) -> str:
    parts = [f"{len(data.train)} rows {hp.epochs} epochs", fit.key(hp, data), recipe.scoring.key]
    return " ".join(filter(None, [recipe.name if shared else "", *parts]))


def _alone(file: Path, url: str) -> contextlib.AbstractContextManager[Any]:
    """Return the block in which no other worker makes tables, or puts the preset into the queue."""
    if url:
        return alone_with(connect(url))
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{file}.lock")


def _shared(url: str) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return RDBStorage(
            url,
            engine_kwargs=connection_options(),
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=_try_again,
        )


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


def end_killed(study: optuna.Study, step: Callable[[str], None]) -> None:
    """Mark the trials of killed processes as failed, and have them tried again; else they would run for ever.

    Those of this machine are told by their process, those of others by their last sign of life in PostgreSQL.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _runs(trial) and _fail(study, trial):
            _try_again(study, copy.deepcopy(trial))
            step(f"trial {trial.number} was killed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)


def _fail(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Mark a trial as failed; return whether it was this process that did."""
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return False
    return True


def _try_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put the values of a trial into the queue, as far as they were drawn."""
    trial.user_attrs.pop(PROCESS, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, trial)


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


def mark(trial: optuna.Trial) -> None:
    """Note the process of a trial, by which others tell whether it runs."""
    process = psutil.Process()
    trial.set_user_attr(PROCESS, (platform.node(), process.pid, process.create_time()))


def await_others(study: optuna.Study, step: Callable[[str], None]) -> None:
    """Wait until no worker runs a trial, so that all see the same best one."""
    end_killed(study, step)
    while study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        time.sleep(PAUSE)
        end_killed(study, step)
