"""How the learning rate goes through a run, by torch.optim.lr_scheduler; a step of it is a batch."""

from torch.optim import Optimizer, lr_scheduler

from training.recipe import Hyperparameters


def scheduler(hp: Hyperparameters, optimizer: Optimizer, steps: int) -> lr_scheduler.LRScheduler | None:
    """The schedule of the hyperparameters, None for a constant rate.

    Args:
        hp: names it; ``lr`` is its highest rate.
        optimizer: whose rate it sets.
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
