"""The log of a job, read as it grows."""

import re
from dataclasses import dataclass
from pathlib import Path

MOST = 64_000  # bytes that are read at once
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # of a terminal (ECMA-48, control sequences)


@dataclass(frozen=True)
class Piece:
    """Some of a log.

    Attributes:
        text: without a terminal's colours.
        offset: bytes from the begin of the file to where the next piece begins.
        skipped: whether something before it was left out, as the log is long.
    """

    text: str
    offset: int
    skipped: bool = False


def read(path: str, offset: int = 0, *, ended: bool = True) -> Piece:
    """What a log has from an offset on, at most its last 64 kB.

    Args:
        path: of the file; it need not be there yet.
        offset: in bytes, as the last piece gave it.
        ended: whether nothing more will be written; until then a line that is not whole is left for later.
    """
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            start = max(offset, size - MOST)
            file.seek(start)
            found = file.read(MOST)
    except OSError:  # not there, or a folder where no log is named
        return Piece("", offset)
    skipped = start > offset
    if skipped:
        cut = found.find(b"\n") + 1
        start, found = start + cut, found[cut:]
    if not ended:
        found = found[: found.rfind(b"\n") + 1]
    return Piece(_COLOUR.sub("", found.decode(errors="replace")), start + len(found), skipped)
