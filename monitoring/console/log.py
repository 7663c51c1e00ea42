"""The log of a job, read as it grows."""

import re
from dataclasses import dataclass

from monitoring.api.jobs import read_log

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # of a terminal (ECMA-48, control sequences)


@dataclass(frozen=True)
class Piece:
    """A piece of a log.

    Attributes:
        text: without a terminal's colours.
        offset: place of the next piece's first byte.
        skipped: whether an earlier part was left out, since the log is long.
    """

    text: str
    offset: int
    skipped: bool


def read_piece(path: str, offset: int | None, ended: bool) -> Piece:
    """Read a log from an offset on.

    Args:
        path: need not exist yet.
        offset: offset of the last piece; None for the end of the log.
        ended: whether the log is complete; until then an incomplete last line is left for later.
    """
    content, following = read_log(path, offset)
    skipped = offset is None and following > len(content)
    if skipped:
        content = content[content.find(b"\n") + 1 :]
    if ended:
        while more := read_log(path, following)[0]:
            content, following = content + more, following + len(more)
    else:
        whole = content.rfind(b"\n") + 1
        content, following = content[:whole], following - len(content) + whole
    return Piece(_COLOUR.sub("", content.decode(errors="replace")), following, skipped)
