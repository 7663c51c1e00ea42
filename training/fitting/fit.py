"""Fitting, by PyTorch Lightning: seeded, with progress, and resumable from its checkpoint."""

import hashlib
import logging
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, RichProgressBar
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler

from training.fitting import checkpoints
from training.fitting.distributed import ALONE, Processes
from training.fitting.rows import Batch, training_batches, validation_batches
from training.recipe import Data, Hyperparameters, Recipe, Trained


class Fit(lightning.LightningModule):
    """Lightning's module of a fit: the recipe's loss on its network."""

    def __init__(self, recipe: Recipe[Any], hp: Hyperparameters, module: nn.Module) -> None:
        super().__init__()
        self.recipe, self.hp, self.module = recipe, hp, module
        self.history: list[dict[str, float]] = []
        self._norms: list[float] = []  # the gradient's, in this epoch's steps

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row, ``(n,)``."""
        return self.recipe.loss(output, target, self.hp)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the weighted mean loss of a batch; where processes share it, the mean over these is the batch's."""
        output = self.module(*self.recipe.augment(batch.inputs, self.hp))
        loss = batch.mean(self.loss(output, batch.target))
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=batch.rows, sync_dist=True)
        return loss + self.hp.l1 * self._sizes() if self.hp.l1 else loss

    def _sizes(self) -> Tensor:
        """Sum all weights' absolute values; offsets and the scales of a normalisation are left out."""
        return torch.stack([values.abs().sum() for values in self.module.parameters() if values.ndim > 1]).sum()

    def validation_step(self, batch: Batch, _: int) -> Tensor:
        """Log the validation loss, and the accuracy of a classification; return the output."""
        output = self.module(*batch.inputs)
        watched = {"val_loss": self.loss(output, batch.target)}
        if self.recipe.task == "classification":
            watched["val_accuracy"] = (output.argmax(1) == batch.target).float()
        for name, values in watched.items():
            self.log(name, batch.mean(values), prog_bar=True, batch_size=batch.rows, sync_dist=True)
        return output  # type: ignore[no-any-return]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Measure the norm of the gradient."""
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        self._norms.append(float(nn.utils.get_total_norm(gradients)))

    def on_train_epoch_end(self) -> None:
        """Append the epoch to the learning curve."""
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        metrics["gradient_norm"] = sum(self._norms) / len(self._norms)
        metrics["learning_rate"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.history.append({"epoch": self.current_epoch + 1, **metrics})
        self._norms = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the learning curve with the weights."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the learning curve."""
        self.history = checkpoint["history"]

    def configure_optimizers(self) -> Any:
        """Build the optimizer and the schedule of the hyperparameters."""
        hp, parameters = self.hp, self.module.parameters()
        optimizer: torch.optim.Optimizer
        if hp.optimizer == "sgd":
            optimizer = torch.optim.SGD(parameters, hp.lr, momentum=hp.momentum, weight_decay=hp.weight_decay)
        else:
            optimizer = torch.optim.AdamW(parameters, hp.lr, weight_decay=hp.weight_decay)
        schedule = scheduler(hp, optimizer, int(self.trainer.estimated_stepping_batches))
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class EpochLines(Callback):
    """Progress where there is no terminal: a line an epoch, at most twenty of them."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the epoch and its metrics."""
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        if epoch % max(1, epochs // 20) == 0:
            metrics = " ".join(f"{name} {float(value):.4f}" for name, value in trainer.callback_metrics.items())
            print(f"epoch {epoch}/{epochs} {metrics}", flush=True)  # noqa: T201


class OwnDraws(Callback):
    """Random numbers of each process: Lightning seeds all alike, and a dropout would leave out the same of each share.

    The first process's go on as if it were alone.
    """

    def __init__(self, seed: int, processes: Processes) -> None:
        state = torch.Generator().manual_seed(seed + processes.rank).get_state()
        self._state = torch.get_rng_state() if processes.is_first else state

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Set the generator's state, once Lightning has seeded it."""
        torch.set_rng_state(self._state)


def fit(
    recipe: Recipe[Any],
    hp: Any,
    data: Data,
    directory: Path,
    *,
    make: Callable[[], Fit] | None = None,
    callbacks: Sequence[Callback] | None = None,
    processes: Processes = ALONE,
) -> Trained:
    """Fit the recipe's module to its training data.

    A run that was interrupted, by Ctrl-C or kill -9, goes on from its last checkpoint: one is kept in ``directory``
    under a key of the hyperparameters and the data, and removed when the run ends. One that is damaged, or of another
    network, is reported and removed, and the run begins anew.

    Args:
        directory: folder of checkpoints; several machines must share it to go on.
        make: builds the fit after the random generators are seeded; None for the recipe's module and loss.
        callbacks: callbacks beside those of every run; None for the progress, a bar on a terminal, else lines.
        processes: all that fit it; each calls this function, and gets the same weights.

    Raises:
        KeyboardInterrupt: after the checkpoint is on disk.
        ProcessLostError: another process ended; as RuntimeError, which ``distributed.joined`` turns into it.
        ValueError: the hyperparameters ask for early stopping, and there are no validation rows to watch; or another
            process has other data, or no checkpoint.
    """
    if hp.patience is not None and data.validation is None:
        raise ValueError(f"{recipe.name} has no validation rows, so that patience={hp.patience} has nothing to watch")
    _check_same(hp, data, processes)
    lightning.seed_everything(hp.seed, verbose=False)
    model = make() if make else Fit(recipe, hp, recipe.module(hp, data))
    checkpoint = directory / recipe.name / f"{key(hp, data)}.ckpt"
    stoppers = checkpoints.stoppers(hp, checkpoint)
    terminal = callbacks is None and processes.is_first and sys.stdout.isatty()
    if callbacks is None:
        callbacks = [RichProgressBar() if terminal else EpochLines()] if processes.is_first else []
    draws = [OwnDraws(hp.seed, processes)] if processes.count > 1 else []
    started = time.monotonic()
    with _quiet():
        trainer = lightning.Trainer(
            max_epochs=hp.epochs,
            accelerator="cpu",
            logger=False,
            callbacks=[checkpoints.saver(hp, checkpoint), *stoppers, *draws, *callbacks],
            enable_progress_bar=terminal,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **processes.trainer(),
        )
        resume = checkpoints.resumable(checkpoint, model, hp.patience is not None, processes)
        if resume and processes.is_first:
            print(f"going on from {resume}", flush=True)  # noqa: T201
        batches = training_batches(data.train, hp, processes)
        validation = None if data.validation is None else validation_batches(data.validation, processes)
        handler = signal.getsignal(signal.SIGINT)
        try:
            # The checkpoint is our own, so that what it unpickles can be trusted.
            trainer.fit(model, batches, validation, ckpt_path=resume, weights_only=False)
        except SystemExit:  # what Lightning makes of Ctrl-C, after it has switched off the next
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
    checkpoints.finish(model, checkpoint, stoppers, processes)
    seconds = time.monotonic() - started
    return Trained(recipe, hp, data, model.module.eval(), seconds, model.history)


def _check_same(hp: Hyperparameters, data: Data, processes: Processes) -> None:
    """Raise unless every process has the same hyperparameters and data."""
    own = (key(hp, data), len(data.train))
    first = processes.agreed(own)
    if own != first:
        raise ValueError(
            f"process {processes.rank} has {own[1]:,} rows to learn from with the key {own[0]}, and the first process "
            f"{first[1]:,} with {first[0]}: every machine needs the same recipe, data and feedback"
        )


def key(hp: Hyperparameters, data: Data) -> str:
    """Return a training's key: a digest of the hyperparameters and of the files that the data were read from."""
    return hashlib.sha256(msgspec.json.encode([asdict(hp), data.sha256], order="sorted")).hexdigest()[:16]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's banners and its advice on loaders, which suits data on disk, not in memory."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    finally:
        logger.setLevel(level)


def scheduler(hp: Hyperparameters, optimizer: Optimizer, steps: int) -> lr_scheduler.LRScheduler | None:
    """Return the schedule of the hyperparameters, None for a constant rate.

    Args:
        hp: ``lr`` is the highest rate.
        steps: batches of the whole run.
    """
    match hp.schedule:
        case "step":  # a tenth from the half on, a hundredth in the last quarter, as He et al. 2016 did by hand
            return lr_scheduler.MultiStepLR(optimizer, [steps // 2, steps * 3 // 4])
        case "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, steps)
        case "restarts":  # two cosines, a third and two thirds of the run (Loshchilov & Hutter 2017)
            return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, -(-steps // 3), 2)
        case "one_cycle":  # up for three tenths, then down to nothing (Smith & Topin 2019)
            return lr_scheduler.OneCycleLR(optimizer, hp.lr, total_steps=steps)
        case _:
            return None
