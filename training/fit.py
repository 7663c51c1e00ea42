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
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from training.recipe import Data, Hyperparameters, Recipe, Split, Trained, to_tensors

Batch = tuple[list[Tensor], Tensor, Tensor]


class Rows(Dataset[Batch]):
    """A split whose item is a whole batch: indexing tensors once beats collating rows one by one."""

    def __init__(self, split: Split) -> None:
        self._inputs = to_tensors(split)
        self._target = torch.from_numpy(split.target)
        self._weight = torch.ones(len(split)) if split.weight is None else torch.from_numpy(split.weight)

    def __len__(self) -> int:
        return len(self._target)

    def __getitem__(self, index: list[int]) -> Batch:
        return [values[index] for values in self._inputs], self._target[index], self._weight[index]


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
        """Return the weighted mean loss of a batch."""
        inputs, target, weight = batch
        rows = self.loss(self.module(*self.recipe.augment(inputs, self.hp)), target)
        loss = (rows * weight).sum() / weight.sum()
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(target))
        return loss + self.hp.l1 * self._sizes() if self.hp.l1 else loss

    def _sizes(self) -> Tensor:
        """Sum all weights' absolute values; offsets and the scales of a normalisation are left out."""
        return torch.stack([values.abs().sum() for values in self.module.parameters() if values.ndim > 1]).sum()

    def validation_step(self, batch: Batch, _: int) -> Tensor:
        """Log the validation loss, and the accuracy of a classification; return the output."""
        inputs, target, _weight = batch
        output = self.module(*inputs)
        self.log("val_loss", self.loss(output, target).mean(), prog_bar=True, batch_size=len(target))
        if self.recipe.task == "classification":
            accuracy = (output.argmax(1) == target).float().mean()
            self.log("val_accuracy", accuracy, prog_bar=True, batch_size=len(target))
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


def fit(
    recipe: Recipe[Any],
    hp: Any,
    data: Data,
    directory: Path,
    *,
    make: Callable[[], Fit] | None = None,
    callbacks: Sequence[Callback] | None = None,
) -> Trained:
    """Fit the recipe's module to its training data.

    A run that was interrupted, by Ctrl-C or kill -9, goes on from its last checkpoint: one is kept in ``directory``
    under a key of the hyperparameters and the data, and removed when the run ends. One that is damaged, or of another
    network, is reported and removed, and the run begins anew.

    Args:
        directory: folder of checkpoints.
        make: builds the fit after the random generators are seeded; None for the recipe's module and loss.
        callbacks: callbacks beside those of every run; None for the progress, a bar on a terminal, else lines.

    Raises:
        KeyboardInterrupt: after the checkpoint is on disk.
        ValueError: the hyperparameters ask for early stopping, and there are no validation rows to watch.
    """
    if hp.patience is not None and data.validation is None:
        raise ValueError(f"{recipe.name} has no validation rows, so that patience={hp.patience} has nothing to watch")
    lightning.seed_everything(hp.seed, verbose=False)
    model = make() if make else Fit(recipe, hp, recipe.module(hp, data))
    checkpoint = directory / recipe.name / f"{key(hp, data)}.ckpt"
    stoppers = _stoppers(hp, checkpoint)
    terminal = callbacks is None and sys.stdout.isatty()
    if callbacks is None:
        callbacks = [RichProgressBar() if terminal else EpochLines()]
    started = time.monotonic()
    with _quiet():
        trainer = lightning.Trainer(
            max_epochs=hp.epochs,
            accelerator="cpu",
            logger=False,
            callbacks=[_saver(hp, checkpoint), *stoppers, *callbacks],
            enable_progress_bar=terminal,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        resume = _resumable(checkpoint, model, best=hp.patience is not None)
        if resume:
            print(f"going on from {resume}", flush=True)  # noqa: T201
        validation = None if data.validation is None else _loader(data.validation, hp, shuffle=False)
        handler = signal.getsignal(signal.SIGINT)
        try:
            # The checkpoint is our own, so that what it unpickles can be trusted.
            trainer.fit(model, _loader(data.train, hp, shuffle=True), validation, ckpt_path=resume, weights_only=False)
        except SystemExit:  # what Lightning makes of Ctrl-C, after it has switched off the next
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
    _restore_best(model, stoppers)
    checkpoint.unlink(missing_ok=True)
    seconds = time.monotonic() - started
    return Trained(recipe, hp, data, model.module.eval(), seconds, model.history)


def _resumable(checkpoint: Path, model: Fit, best: bool) -> Path | None:
    """Return the checkpoint if the run can go on from it; else remove its files and return None.

    Args:
        model: must have the checkpoint's network.
        best: whether the weights of the best epoch are kept beside it.
    """
    files = [checkpoint, *([_best(checkpoint)] if best else [])]
    if not checkpoint.exists():
        return None
    try:
        for file in files:
            _check_checkpoint(file, model, whole=file == checkpoint)
    except Exception as error:  # whatever unpickling damaged bytes raises
        fault = " ".join(str(error).split())[:200] or type(error).__name__
        print(f"{checkpoint} cannot be gone on from, so that training begins anew: {fault}", flush=True)  # noqa: T201
        for file in files:
            file.unlink(missing_ok=True)
        return None
    return checkpoint


def _check_checkpoint(file: Path, model: Fit, whole: bool) -> None:
    """Raise unless a file is a checkpoint of a model's network; a whole one has learning curve and optimizer too."""
    # The checkpoint is our own, so that what it unpickles can be trusted.
    content = torch.load(file, map_location="cpu", weights_only=not whole)
    if missing := {"state_dict", *(("history", "optimizer_states", "loops") if whole else ())} - content.keys():
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    shapes, own = (
        {name: values.shape for name, values in state.items()} for state in (content["state_dict"], model.state_dict())
    )
    if shapes != own:
        raise ValueError("it is of another network")


def _best(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.stem}-best.ckpt")


def _saver(hp: Hyperparameters, checkpoint: Path) -> ModelCheckpoint:
    """Return the callback that keeps the checkpoint of an interrupted run."""
    every = max(1, hp.epochs // 20)
    saver = ModelCheckpoint(
        dirpath=checkpoint.parent, filename=checkpoint.stem, every_n_epochs=every, save_on_train_epoch_end=True
    )
    saver.CHECKPOINT_EQUALS_CHAR = "-"
    return saver


def _stoppers(hp: Hyperparameters, checkpoint: Path) -> list[Callback]:
    """Return the callbacks of early stopping, which also keep the best epoch's weights; none without ``patience``."""
    if hp.patience is None:
        return []
    best = ModelCheckpoint(
        dirpath=checkpoint.parent,
        filename=_best(checkpoint).stem,
        monitor="val_loss",
        save_weights_only=True,
        enable_version_counter=False,
    )
    return [EarlyStopping("val_loss", patience=hp.patience), best]


def _restore_best(model: Fit, stoppers: list[Callback]) -> None:
    for best in stoppers:
        if isinstance(best, ModelCheckpoint) and best.best_model_path:
            path = Path(best.best_model_path)
            model.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
            path.unlink()


def key(hp: Hyperparameters, data: Data) -> str:
    """Return a training's key: a digest of the hyperparameters and of the files that the data were read from."""
    return hashlib.sha256(msgspec.json.encode([asdict(hp), data.sha256], order="sorted")).hexdigest()[:16]


def _loader(split: Split, hp: Hyperparameters, shuffle: bool) -> DataLoader[Batch]:
    rows = Rows(split)
    order = RandomSampler(rows) if shuffle else SequentialSampler(rows)
    size = hp.batch_size if shuffle else 1000
    return DataLoader(rows, sampler=BatchSampler(order, size, drop_last=False), batch_size=None)


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
