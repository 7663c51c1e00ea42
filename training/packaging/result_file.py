"""The result of a training for the program that started it, in the file of ``--result``."""

import msgspec


class Trained(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of the result file.

    Attributes:
        version: the registered version.
        why: reason of the state.
        held_out_since: time of the oldest prediction that was held out and not learned; empty without such.
        error: why there is no version; then all else is empty.
    """

    model: str
    version: str = ""
    archive: str = ""
    state: str = ""
    why: str = ""
    held_out_since: str = ""
    error: str = ""
