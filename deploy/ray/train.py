"""Train a model by several processes of a Ray cluster, which Ray Train starts:

RAY_ADDRESS=10.0.0.1:6379 python deploy/ray/train.py flights --processes 4
"""

import os
from typing import Annotated, Any

import typer

from monitoring.retraining.launch.place import training_variables
from serving.command_line import fail, settings, start
from training import recipes
from training.data import DataError


def train(arguments: list[str]) -> None:
    """Run ``marloop train`` in one of the processes that Ray Train has joined.

    Raises:
        RuntimeError: the command failed; its output says why.
    """
    from training.__main__ import app

    if code := app(["train", *arguments], standalone_mode=False):
        raise RuntimeError(f"`marloop train` ended with exit code {code}")


def main(
    model: Annotated[str, typer.Argument(help="Name of a recipe.")],
    processes: Annotated[int, typer.Option(min=1, help="Processes, a core each, on any machines of the cluster.")] = 2,
    preset: Annotated[str, typer.Option(help="Hyperparameters by name; default: the recipe's first.")] = "",
) -> None:
    """Train a model; the first process packages and registers it."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    chosen = settings()
    store, variables = chosen.store_url or str(chosen.model_store.resolve()), training_variables(os.environ)
    try:
        recipes.ready(model).preset(preset or None)
    except (KeyError, ValueError, DataError) as error:
        fail(error)
    arguments = [model, "--store", store, *(["--preset", preset] if preset else [])]
    trainer: Any = TorchTrainer(
        train_loop_per_worker=lambda config: train(config["arguments"]),
        train_loop_config={"arguments": arguments},
        scaling_config=ScalingConfig(num_workers=processes),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(
            storage_path=f"{variables['MARLOOP_RUNS']}/ray", worker_runtime_env={"env_vars": variables}
        ),
    )
    try:
        trainer.fit()
    except ConnectionError as error:  # there is no such cluster
        fail(error)
    except TrainingFailedError:
        fail(f"{model} could not be trained: the output of its processes says why")


if __name__ == "__main__":
    start("training")
    typer.run(main)
