"""What a retraining found, stage by stage, as its job keeps it in JSON; apart from the judge, which loads archives."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from pydantic_core import core_schema

from training.statistics.pair import Pair

Stage = Literal["train", "judge", "shadow", "promote"]


class Check(msgspec.Struct, frozen=True):
    """One of the judge's conditions.

    Attributes:
        name: ``contract``, ``parity``, ``example``, ``rows``, ``answers``, ``error``, ``slices``, ``classes`` or
            ``latency``.
        detail: a sentence with the figures.
    """

    name: str
    passed: bool
    detail: str


class Verdict(msgspec.Struct, frozen=True):
    """What the judge says.

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


class Shadowed(msgspec.Struct, frozen=True):
    """What came of the shadow; without requests to send there are no figures of answers.

    Attributes:
        requests: that both versions were sent.
        rows: that both answered; one a request.
        errors: rows that the champion answered and the challenger did not.
        agreement: share of the rows with the same label, or whose answers differ by no more than the champion's
            held-out RMSE; 0 without rows.
        champion_ms: median latency over the rows; 0 without rows.
        challenger_ms: the same.
        champion_p95_ms: what one row in twenty takes longer than.
        challenger_p95_ms: the same.
        reason: a sentence with the figures.
    """

    requests: int
    rows: int | UnsetType = UNSET
    errors: int | UnsetType = UNSET
    agreement: float | UnsetType = UNSET
    champion_ms: float | UnsetType = UNSET
    challenger_ms: float | UnsetType = UNSET
    champion_p95_ms: float | UnsetType = UNSET
    challenger_p95_ms: float | UnsetType = UNSET
    passed: bool = False
    reason: str = ""


class Watched(msgspec.Struct, frozen=True, omit_defaults=True):
    """The watch over a promotion; every time is in ISO 8601 and UTC, empty before it is known.

    Attributes:
        former: the version that was served before.
        former_ms: the median latency of its probes; None if one failed.
        label_delay_seconds: within which 95 % of its labels came.
        since: the promotion.
        until: the end of the watch.
        closes: when the labels of the last predictions before that end should be here.
        open: whether it goes on.
        closed: when it ended.
        reason: why it ended.
    """

    former: str = ""
    former_ms: float | None | UnsetType = UNSET
    label_delay_seconds: float | UnsetType = UNSET
    since: str = ""
    until: str = ""
    closes: str = ""
    open: bool | UnsetType = UNSET
    closed: str = ""
    reason: str = ""

    def ended(self, now: datetime, reason: str) -> "Watched":
        """Return the watch as it is closed at a moment, for a reason."""
        return msgspec.structs.replace(self, open=False, closed=now.isoformat(), reason=reason)


class JobResult(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a job found so far; a part of it is also how more is added to it.

    Attributes:
        attempts: how often its training was started.
        rows: labelled ones that it learns from.
        rows_until: the time of the newest of them.
        version: the challenger that it trained.
        held_out_since: the time of the oldest row that the challenger did not learn from.
        champion: the version that the challenger was judged against.
        verdict: None where it must be judged again.
        shadow: the same.
        cancel: whether somebody wants it ended.
        error: why it failed.
    """

    stage: Stage | None = None
    attempts: int | None = None
    rows: int | None = None
    rows_until: str | None = None
    version: str = ""
    held_out_since: str | None = None
    champion: str = ""
    verdict: Verdict | None | UnsetType = UNSET
    shadow: Shadowed | None | UnsetType = UNSET
    watch: Watched | None = None
    cancel: bool = False
    error: str = ""

    @property
    def versions(self) -> Pair[str]:
        """The champion that is judged against, and the challenger that was trained."""
        return Pair(self.champion, self.version)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Describe it over HTTP as the object that it is in the database."""
        plain = core_schema.plain_serializer_function_ser_schema(
            msgspec.to_builtins, return_schema=core_schema.dict_schema()
        )
        return core_schema.is_instance_schema(cls, serialization=plain)


def read_result(document: Mapping[str, Any]) -> JobResult:
    """Read what the database has of a job; keys of other versions stay there, and are not shown."""
    try:
        return msgspec.convert(document, JobResult)
    except msgspec.ValidationError as error:  # one damaged row must not stop the loop, nor the pages of the others
        return JobResult(error=f"its result in the database cannot be read: {error}")
