"""What a training tells the program that started it, in the file of ``--result``."""

import msgspec


class Trained(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the command leaves in its result file.

    Attributes:
        version: that it registered.
        why: it has that state.
        held_out_since: the oldest prediction that it did not learn from, as it judged itself on it; empty without such.
        error: why there is no version, and all else is empty.
    """

    model: str
    version: str = ""
    archive: str = ""
    state: str = ""
    why: str = ""
    held_out_since: str = ""
    error: str = ""
