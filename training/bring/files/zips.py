"""Files of models that are zips, as those of PyTorch and of skops: refused where they would expand beyond reason."""

from pathlib import Path

from serving.archive import ArchiveError, limits
from training.bring.graph import BringError


def check_size(path: Path) -> None:
    """Look at a file before its library unpacks it; one that is no zip passes.

    Raises:
        BringError: it would become far larger than any model is packed.
    """
    try:
        limits.check_zip(path)
    except ArchiveError as error:
        raise BringError(str(error)) from error
