"""The result of a job by stage, stored as JSON with its job; apart from the judge, which loads archives."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from pydantic_core import core_schema

from training.statistics.pair import Pair

Stage = Literal["train", "judge", "shadow", "promote"]
Kind = Literal["retraining", "challenge"]


class Check(msgspec.Struct, frozen=True):
    """One of the judge's conditions.

    Attributes:
        name: ``contract``, ``parity``, ``example``, ``rows``, ``answers``, ``error``, ``targets``, ``slices``,
            ``classes`` or ``latency``.
        detail: a sentence with the figures.
    """

    name: str
    passed: bool
    detail: str


class Verdict(msgspec.Struct, frozen=True):
    """The judge's verdict.

    Attributes:
        reason: a sentence or more for people: the gain, or every failed check.
        checks: those that were made; where the contract or the rows fail theirs, and without labelled rows, nothing is
            measured.
        metric: name of the deciding metric, such as ``rmse`` or ``accuracy``; empty where no row is labelled.
        champion: the champion's metric, in the output's unit or as a share; None if it was not measured.
        challenger: the challenger's metric.
        gain_low: with the policy's confidence the challenger's error is lower by more than this share of the
            champion's (the error of an accuracy is 1 − accuracy); −1 at least; None if it was not measured.
        gain_high: with the same confidence it is lower by less than this share.
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
    """The result of the shadow; without requests to send there are no figures of answers.

    Attributes:
        requests: number of requests that were sent to both versions.
        rows: number of rows that both answered; one a request.
        errors: rows that the champion answered and the challenger did not.
        agreement: share of the rows with the same label, or whose answers differ by no more than the champion's
            held-out RMSE; ``judging.agreement`` has the other tasks; 0 without rows.
        champion_ms: median latency over the rows; 0 without rows.
        champion_p95_ms: 95th percentile of the latency.
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
    """The watch over a promotion; every time is in ISO 8601 and UTC, empty before it is set.

    Attributes:
        former: the version that was served before.
        former_ms: the median latency of its probes; None if one failed.
        label_delay_seconds: time within which 95 % of its labels came.
        since: time of the promotion.
        until: end of the watch.
        closes: time by which the labels of the last predictions before ``until`` should be here.
        open: whether it goes on.
        closed: time when it ended.
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
        """Return the watch, closed at a moment for a reason."""
        return msgspec.structs.replace(self, open=False, closed=now.isoformat(), reason=reason)


class JobResult(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The result of a job so far; ``Journal.extend_job`` adds the set fields of another one to it.

    Attributes:
        kind: a challenge has no training: its challenger is registered already.
        attempts: how often its training was started.
        place: where it was started last, as machine and folder.
        rows: number of labelled rows that it learns from.
        rows_until: time of the newest of them.
        version: the challenger.
        held_out_since: time of the oldest row that the challenger did not learn from.
        champion: the version that the challenger was judged against.
        verdict: None where it must be judged again.
        shadow: None where it must be repeated.
        cancel: whether it is to be ended.
        error: why it failed.
    """

    kind: Kind = "retraining"
    stage: Stage | None = None
    attempts: int | None = None
    place: str = ""
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
        """Return the champion that is judged against, and the challenger."""
        return Pair(self.champion, self.version)

    @property
    def is_unlabelled(self) -> bool:
        """Whether no labelled row told which version is better, so that the shadow decides."""
        return self.kind == "challenge" and (not self.verdict.rows if self.verdict else False)

    @property
    def reason(self) -> str:
        """Why the challenger is promoted: the judge's reason, and the shadow's where that decides."""
        reasons = [part.reason for part in (self.verdict, self.shadow if self.is_unlabelled else None) if part]
        return ": ".join(reasons)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Return the schema by which HTTP shows the result as the object that it is in the database."""
        plain = core_schema.plain_serializer_function_ser_schema(
            msgspec.to_builtins, return_schema=core_schema.dict_schema()
        )
        return core_schema.is_instance_schema(cls, serialization=plain)


def read_result(document: Mapping[str, Any]) -> JobResult:
    """Decode a job's result from the database; keys of other versions of Marloop are left out."""
    try:
        return msgspec.convert(document, JobResult)
    except msgspec.ValidationError as error:  # a damaged row must not stop the loop, nor the pages of other jobs
        return JobResult(error=f"its result in the database cannot be read: {error}")
