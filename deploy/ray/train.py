"""Train a model on several machines of a Ray cluster, by Ray Train:

python deploy/ray/train.py flights --processes 4
"""

import sys
from typing import Annotated

import typer


def train(arguments: list[str]) -> None:
    """Run ``marloop train`` in one of the processes that Ray Train has joined.

    Raises:
        RuntimeError: the command failed; its output says why.
    """
    from training.__main__ import app

    if code := app(["train", *arguments], standalone_mode=False):
        raise RuntimeError(f"`marloop train` ended with exit code {code}; its output says why")


def main(
    model: Annotated[str, typer.Argument(help="Name of a recipe.")],
    processes: Annotated[int, typer.Option(min=1, help="Processes, a core each, on any machines of the cluster.")] = 2,
    preset: Annotated[str, typer.Option(help="Hyperparameters by name; default: the recipe's first.")] = "",
) -> None:
    """Train a model; the first process packages and registers it."""
    from ray.train import ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    arguments = [model, *(["--preset", preset] if preset else [])]
    trainer = TorchTrainer(
        train_loop_per_worker=lambda config: train(config["arguments"]),
        train_loop_config={"arguments": arguments},
        scaling_config=ScalingConfig(num_workers=processes),
        torch_config=TorchConfig(backend="gloo"),
    )
    trainer.fit()


if __name__ == "__main__":
    sys.exit(typer.run(main))
