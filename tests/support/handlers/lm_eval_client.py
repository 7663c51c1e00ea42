"""EleutherAI's lm-eval, unmodified: runs tasks of a folder with several of its own models, and prints their scores.

A program of its own, since lm-eval reads its settings when it is imported:
``python -m tests.support.handlers.lm_eval_client FOLDER RUNS``. The runs are JSON: by name, arguments of its
``simple_evaluate``, such as ``{"api": {"model": "local-completions", "model_args": …}}``.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

METRICS = ("acc", "acc_norm", "exact_match", "word_perplexity", "bits_per_byte")
DOCUMENTS = 10  # of each task, in the order of its file


def main(folder: Path, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Run the tasks of a folder, all unless a run names some, and return its scores by run and task."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    os.chdir(folder)  # where the paths of data in a task begin
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    scores: dict[str, Any] = {}
    for name, arguments in runs.items():
        settings = {"tasks": manager.all_subtasks, "limit": DOCUMENTS} | arguments
        output: Any = simple_evaluate(task_manager=manager, bootstrap_iters=0, **settings)
        scores[name] = {task: _scores(output, task) for task in settings["tasks"]}
    return scores


def _scores(output: Any, task: str) -> dict[str, Any]:
    samples = sorted(output["samples"][task], key=lambda sample: sample["doc_id"])
    metrics = {name.partition(",")[0]: value for name, value in output["results"][task].items()}
    return {
        "metrics": {name: value for name, value in metrics.items() if name in METRICS},
        "answers": [[answer for (answer,) in sample["resps"]] for sample in samples],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]).resolve(), json.loads(sys.argv[2]))))
