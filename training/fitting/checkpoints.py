"""The checkpoints of a fit: one to go on from after an interruption, and the weights of the best epoch."""

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from training.fitting.distributed import ALONE, Processes
from training.recipe import Hyperparameters


def resumable(
    checkpoint: Path, model: lightning.LightningModule, best: bool, processes: Processes = ALONE
) -> Path | None:
    """Return the checkpoint if the run can go on from it; else remove its files and return None.

    Args:
        model: must have the checkpoint's network.
        best: whether the weights of the best epoch are kept beside it.

    Raises:
        ValueError: the first process has the checkpoint and this one has not.
    """
    whole = processes.is_first and _is_whole(checkpoint, model, best)
    if not processes.agreed(whole):
        return None
    if not checkpoint.exists():
        raise ValueError(
            f"{checkpoint} is where the first process is, and not here: MARLOOP_RUNS must name a folder that all "
            "machines share"
        )
    return checkpoint


def _is_whole(checkpoint: Path, model: lightning.LightningModule, best: bool) -> bool:
    files = [checkpoint, *([best_of(checkpoint)] if best else [])]
    if not checkpoint.exists():
        return False
    try:
        for file in files:
            _check(file, model, whole=file == checkpoint)
    except Exception as error:  # whatever unpickling damaged bytes raises
        fault = " ".join(str(error).split())[:200] or type(error).__name__
        print(f"{checkpoint} cannot be gone on from, so that training begins anew: {fault}", flush=True)  # noqa: T201
        for file in files:
            file.unlink(missing_ok=True)
        return False
    return True


def _check(file: Path, model: lightning.LightningModule, whole: bool) -> None:
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


def best_of(checkpoint: Path) -> Path:
    """Return the file of the best epoch's weights, beside a checkpoint."""
    return checkpoint.with_name(f"{checkpoint.stem}-best.ckpt")


def saver(hp: Hyperparameters, checkpoint: Path) -> ModelCheckpoint:
    """Return the callback that keeps the checkpoint of an interrupted run."""
    every = max(1, hp.epochs // 20)
    callback = ModelCheckpoint(
        dirpath=checkpoint.parent, filename=checkpoint.stem, every_n_epochs=every, save_on_train_epoch_end=True
    )
    callback.CHECKPOINT_EQUALS_CHAR = "-"
    return callback


def stoppers(hp: Hyperparameters, checkpoint: Path) -> list[Callback]:
    """Return the callbacks of early stopping, which also keep the best epoch's weights; none without ``patience``."""
    if hp.patience is None:
        return []
    best = ModelCheckpoint(
        dirpath=checkpoint.parent,
        filename=best_of(checkpoint).stem,
        monitor="val_loss",
        save_weights_only=True,
        enable_version_counter=False,
    )
    return [EarlyStopping("val_loss", patience=hp.patience), best]


def finish(
    model: lightning.LightningModule, checkpoint: Path, callbacks: Sequence[Callback], processes: Processes = ALONE
) -> None:
    """Give a fitted model the weights of its best epoch, where these were kept, and remove the run's files.

    Args:
        callbacks: those of ``stoppers``.
    """
    keepers = [callback for callback in callbacks if isinstance(callback, ModelCheckpoint)]
    kept = [Path(keeper.best_model_path) for keeper in keepers if keeper.best_model_path]
    for path in kept:
        model.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    processes.wait()  # others may be reading
    if processes.is_first:
        for path in (*kept, checkpoint):
            path.unlink(missing_ok=True)
