"""lm-eval's tasks from files of the user: YAML beside its data, run without a network, measured by document."""

import contextlib
import hashlib
import importlib.util
import logging
import os
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from training.data import DataError, install
from training.language.evaluation.scores import DocumentScores, Scale
from training.language.evaluation.text_models import TextModel

SEED = 1234  # of the choice of examples before a question; lm-eval's own
LOCAL = ("arrow", "csv", "json", "parquet", "text")  # readers of data that lies in files
# Settings by which its reader of data fetches nothing.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
CACHE = "HF_DATASETS_CACHE"  # folder of the data as the reader has prepared it
SCALES: dict[str, Scale] = {  # of lm-eval's aggregations
    "mean": "mean",
    "perplexity": "perplexity",
    "weighted_perplexity": "perplexity",
    "bits_per_byte": "bits",
}


@dataclass(frozen=True)
class Tasks:
    """Tasks to be run.

    Attributes:
        folder: of their files; the paths of their data begin there.
        names: of tasks, or of one group.
        sha256: of all files in the folder.
    """

    folder: Path
    names: tuple[str, ...]
    sha256: str


def read_tasks(path: Path, cache: Path, environ: MutableMapping[str, str] = os.environ) -> Tasks:
    """Read which tasks a file, or a folder of files, describes.

    Args:
        cache: folder for the data as lm-eval's reader prepares it.
        environ: gets the settings by which that reader fetches nothing.

    Raises:
        DataError: lm-eval is not installed, or a file cannot be read, or is no task whose data lie in files.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise DataError(f"tasks are lm-eval's, which is not installed: {install('evaluate')}")
    files = sorted(path.glob("**/*.yaml")) if path.is_dir() else [path]
    names = [name for file in files if (name := _task(file, path.is_dir()))]
    if not names:
        raise DataError(f"{path} holds no task: a file ends with .yaml and has the key `task`")
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"{path} has the task {twice.pop()} twice; each name is of one task")
    for name, value in OFFLINE.items():
        environ.setdefault(name, value)
    environ.setdefault(CACHE, str((cache / "datasets").resolve()))
    folder = path if path.is_dir() else path.parent
    return Tasks(folder.resolve(), tuple(names), _digest(folder if path.is_dir() else path))


def run_tasks(tasks: Tasks, model: TextModel) -> list[DocumentScores]:
    """Run tasks on a model.

    Returns:
        Each metric of each task, in the order of the tasks' names.

    Raises:
        DataError: a task cannot be loaded, or has a metric whose error is not known.
    """
    from lm_eval.evaluator import evaluate

    from training.language.evaluation.harness import HarnessModel

    loaded = _load(tasks)
    results = evaluate(HarnessModel(model), loaded, bootstrap_iters=0, log_samples=True, verbosity="ERROR")
    return [
        scores
        for name, task in sorted(loaded["tasks"].items())
        for scores in _scores(name, task, results["samples"][name])
    ]


def _load(tasks: Tasks) -> Any:
    import datasets
    import lm_eval.api.task
    from lm_eval.tasks import TaskManager

    datasets.disable_progress_bars()
    # Its own bars would run into what is printed here. TQDM_DISABLE counts only before anything has imported tqdm.
    lm_eval.api.task.tqdm = partial(lm_eval.api.task.tqdm, disable=True)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    try:
        with contextlib.chdir(tasks.folder):
            loaded = TaskManager(include_path=str(tasks.folder), include_defaults=False).load(list(tasks.names))
    except Exception as error:  # a task is a program: of its own functions, and of lm-eval's reading of it
        raise DataError(f"{tasks.folder}: {' '.join(str(error).split())}") from error
    for name, task in loaded["tasks"].items():
        if task.get_config("num_fewshot") is None:
            task.set_config("num_fewshot", 0)
        task.set_fewshot_seed(seed=SEED)
        for metric, function in task.aggregation().items():
            if function.__name__ not in SCALES:
                raise DataError(
                    f"the task {name} has the metric {metric}, which is no mean over documents, so that its error is "
                    "not known: take acc, acc_norm, exact_match, a perplexity, or a function of your own with the "
                    "aggregation mean"
                )
    return loaded


def _scores(name: str, task: Any, samples: list[dict[str, Any]]) -> Iterator[DocumentScores]:
    """Yield the metrics of one task; one of several filters of its answers is named with the metric."""
    filters = sorted({sample["filter"] for sample in samples})
    better, aggregation = task.higher_is_better(), task.aggregation()
    for chosen in filters:
        own = sorted((sample for sample in samples if sample["filter"] == chosen), key=lambda sample: sample["doc_id"])
        for metric, function in aggregation.items():
            if metric not in own[0]["metrics"]:
                continue
            values = np.array([sample[metric] for sample in own], np.float64)
            sums, sizes = values.T if values.ndim == 2 else (values, np.ones(len(values)))
            shown = metric if len(filters) == 1 else f"{metric} of {chosen}"
            yield DocumentScores(name, shown, better.get(metric, True), sums, sizes, SCALES[function.__name__])


class _Loader(yaml.SafeLoader):
    """Reads a task's file without running the functions that it names."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: str(node.value))


def _task(file: Path, of_folder: bool) -> str:
    """Return the name of the task in a file; empty for what other files include, and for a group among its tasks.

    Raises:
        DataError: the file cannot be read, or its data lie elsewhere.
    """
    try:
        config = yaml.load(file.read_bytes(), _Loader)  # noqa: S506
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise DataError(f"{file} holds no task: it must be a mapping with the key `task`")
    source = config.get("dataset_path", LOCAL[0])
    if source not in LOCAL:
        raise DataError(
            f"{file}: its dataset_path is {source!r}, which lm-eval would fetch; data must lie in files: one of "
            f"{', '.join(LOCAL)}, with data_files in dataset_kwargs"
        )
    name = config.get("task" if isinstance(config.get("task"), str) else "group")
    return name if isinstance(name, str) and not (of_folder and "group" in config) else ""


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the files in a folder and their names."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(str(file.relative_to(path) if path.is_dir() else file.name).encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
