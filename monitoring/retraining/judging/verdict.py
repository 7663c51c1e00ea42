"""What the judge found, as a job keeps it; apart from the judge, which loads what opens archives."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One of the conditions.

    Attributes:
        name: ``contract``, ``parity``, ``example``, ``rows``, ``answers``,
            ``error``, ``slices`` or ``latency``.
        detail: a sentence with the figures.
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What the judge says; ``dataclasses.asdict`` of it is JSON.

    Attributes:
        reason: a sentence or more for people: the gain, or all that speaks against the challenger.
        checks: those that were made; where the contract or the rows do not do, nothing is measured.
        metric: that decides, ``rmse`` or ``accuracy``.
        champion: its metric on the rows, in the output's unit or as a share; None if it was not measured.
        challenger: the same of the challenger.
        gain_low: with the policy's confidence the challenger's error is lower by more than this share of the
            champion's (the error of an accuracy is 1 − accuracy); −1 at least; None if it was not measured.
        gain_high: and with the same confidence by less than this.
        rows: labelled rows that fit the champion.
    """

    promote: bool
    reason: str
    checks: tuple[Check, ...]
    metric: str
    champion: float | None
    challenger: float | None
    gain_low: float | None
    gain_high: float | None
    rows: int
