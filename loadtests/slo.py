"""Service level objectives, from ``slo.yaml``, and the verdicts on measurements by them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

FILE = Path(__file__).with_name("slo.yaml")


class Objectives(Struct, frozen=True, forbid_unknown_fields=True):
    """The objectives of one model in one profile; ``slo.yaml`` explains each."""

    p95_ms: float
    p99_ms: float
    error_ratio: float
    throughput: float
    shed_ratio: float = 0.0
    recovery_p95_ms: float | None = None
    ttft_p95_ms: float | None = None
    tokens_per_second: float | None = None


class _Partial(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    p95_ms: float | UnsetType = UNSET
    p99_ms: float | UnsetType = UNSET
    error_ratio: float | UnsetType = UNSET
    throughput: float | UnsetType = UNSET
    shed_ratio: float | UnsetType = UNSET
    recovery_p95_ms: float | None | UnsetType = UNSET
    ttft_p95_ms: float | None | UnsetType = UNSET
    tokens_per_second: float | None | UnsetType = UNSET
    pacing: float | UnsetType = UNSET


class _Model(_Partial, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    weight: int = 1
    profiles: dict[str, _Partial] = {}


class Slo(Struct, frozen=True, forbid_unknown_fields=True):
    """The file: objectives for every model, and for some models in particular."""

    default: _Model
    models: dict[str, _Model] = {}

    def weight(self, model: str) -> int:
        """Return a model's share of the users in a run of several models."""
        return self.models.get(model, self.default).weight

    def objectives(self, model: str, profile: str) -> Objectives:
        """Return the objectives of a model in a profile.

        Raises:
            ValueError: an objective is missing.
        """
        merged = self._merged(model, profile)
        named = {name: value for name, value in merged.items() if name in Objectives.__struct_fields__}
        try:
            return msgspec.convert(named, Objectives)
        except msgspec.ValidationError as error:
            raise ValueError(f"slo.yaml, {model}, {profile}: {error}") from None

    def pacing(self, model: str, profile: str, otherwise: float) -> float:
        """Return the seconds from one request of a user to the next; ``otherwise`` where the file has none."""
        return float(self._merged(model, profile).get("pacing", otherwise))

    def _merged(self, model: str, profile: str) -> dict[str, Any]:
        own = self.models.get(model, _Model())
        merged: dict[str, Any] = {}
        for layer in (self.default, own, self.default.profiles.get(profile), own.profiles.get(profile)):
            merged |= msgspec.to_builtins(layer) if layer else {}
        return merged


def read_slo(path: Path = FILE) -> Slo:
    """Read the objectives.

    Raises:
        ValueError: the file is missing or invalid; the message names the place.
    """
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Slo)
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(f"{path}: {error}") from None


@dataclass(frozen=True)
class Measured:
    """The counts and times of the requests to one model.

    Attributes:
        requests: number that ended, whatever the answer.
        errors: number of wrong or missing answers.
        shed: number refused with 503, because the model's queue was full.
        seconds: duration of the run.
        times: number of requests that were not shed, by duration in ms, which Locust rounds to two digits.
        first_times: number of a language model's streams, by the time to their first token, likewise.
        tokens: number of tokens of these streams.
    """

    requests: int = 0
    errors: int = 0
    shed: int = 0
    seconds: float = 0.0
    times: Mapping[int, int] = field(default_factory=dict)
    first_times: Mapping[int, int] = field(default_factory=dict)
    tokens: int = 0

    def since(self, earlier: "Measured") -> "Measured":
        """Return the measurements since an earlier moment of the same run."""
        return Measured(
            self.requests - earlier.requests,
            self.errors - earlier.errors,
            self.shed - earlier.shed,
            self.seconds - earlier.seconds,
            _later(self.times, earlier.times),
            _later(self.first_times, earlier.first_times),
            self.tokens - earlier.tokens,
        )

    def percentile(self, share: float) -> float:
        """Return the shortest time, in ms, within which this share of the requests ended; infinite for none."""
        return _percentile(self.times, share)

    def first_percentile(self, share: float) -> float:
        """Return the time, in ms, within which this share of the streams had their first token; infinite for none."""
        return _percentile(self.first_times, share)

    def rate(self, count: int) -> float:
        """Return a count of the run as a count a second."""
        return count / self.seconds if self.seconds else 0.0


def _later(times: Mapping[int, int], earlier: Mapping[int, int]) -> dict[int, int]:
    return {time: count - earlier.get(time, 0) for time, count in times.items()}


def _percentile(times: Mapping[int, int], share: float) -> float:
    total, cumulated = sum(times.values()), 0
    for time in sorted(times):
        cumulated += times[time]
        if total and cumulated >= share * total:
            return time
    return float("inf")


class Verdict(NamedTuple):
    """An objective of one model with the measured value.

    Attributes:
        at_least: whether the limit is a lower one.
    """

    model: str
    objective: str
    limit: float
    measured: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Tell whether the measured value keeps to the limit."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def __str__(self) -> str:
        sign = "at least" if self.at_least else "at most"
        return f"{self.model}: {self.objective} is {self.measured:.4g}, but must be {sign} {self.limit:.4g}"


def judge(model: str, objectives: Objectives, measured: Measured, recovery: Measured | None = None) -> list[Verdict]:
    """Compare one model's measurements with its objectives.

    Args:
        measured: the whole run's.
        recovery: the recovery stage's alone; None without such a stage.
    """
    count = max(1, measured.requests)
    at_most = {
        "p95_ms": (objectives.p95_ms, measured.percentile(0.95)),
        "p99_ms": (objectives.p99_ms, measured.percentile(0.99)),
        "ttft_p95_ms": (objectives.ttft_p95_ms, measured.first_percentile(0.95)),
        "error_ratio": (objectives.error_ratio, measured.errors / count),
        "shed_ratio": (objectives.shed_ratio, measured.shed / count),
    }
    if recovery is not None:
        at_most["recovery_p95_ms"] = (objectives.recovery_p95_ms, recovery.percentile(0.95))
    right = measured.requests - measured.errors - measured.shed
    at_least = {
        "throughput": (objectives.throughput, measured.rate(right)),
        "tokens_per_second": (objectives.tokens_per_second, measured.rate(measured.tokens)),
    }
    return [
        Verdict(model, name, limit, value, bounds is at_least)
        for bounds in (at_most, at_least)
        for name, (limit, value) in bounds.items()
        if limit is not None
    ]


def failed(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return the verdicts that were not met."""
    return [verdict for verdict in verdicts if not verdict.met]
