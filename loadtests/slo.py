"""Service level objectives: read from ``slo.yaml``, and what was measured judged by them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

FILE = Path(__file__).with_name("slo.yaml")


class Objectives(Struct, frozen=True, forbid_unknown_fields=True):
    """What one model must keep in one profile; ``slo.yaml`` explains each."""

    p95_ms: float
    p99_ms: float
    error_ratio: float
    throughput: float
    shed_ratio: float = 0.0
    recovery_p95_ms: float | None = None


class _Partial(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    p95_ms: float | UnsetType = UNSET
    p99_ms: float | UnsetType = UNSET
    error_ratio: float | UnsetType = UNSET
    throughput: float | UnsetType = UNSET
    shed_ratio: float | UnsetType = UNSET
    recovery_p95_ms: float | None | UnsetType = UNSET


class _Model(_Partial, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    weight: int = 1
    profiles: dict[str, _Partial] = {}


class Slo(Struct, frozen=True, forbid_unknown_fields=True):
    """The file: objectives of every model, and of some models in particular."""

    default: _Model
    models: dict[str, _Model] = {}

    def weight(self, model: str) -> int:
        """A model's share of the users, when several are asked at once."""
        return self.models.get(model, self.default).weight

    def objectives(self, model: str, profile: str) -> Objectives:
        """What a model must keep in a profile.

        Raises:
            ValueError: an objective is named nowhere.
        """
        own = self.models.get(model, _Model())
        layers = [self.default, own, self.default.profiles.get(profile), own.profiles.get(profile)]
        merged: dict[str, Any] = {}
        for layer in layers:
            merged |= msgspec.to_builtins(layer) if layer else {}
        known = {name: value for name, value in merged.items() if name in Objectives.__struct_fields__}
        try:
            return msgspec.convert(known, Objectives)
        except msgspec.ValidationError as error:
            raise ValueError(f"slo.yaml, {model}, {profile}: {error}") from None


def read(path: Path = FILE) -> Slo:
    """Read the file.

    Raises:
        ValueError: it is not as it should be; the message names the place.
    """
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Slo)
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(f"{path}: {error}") from None


@dataclass(frozen=True)
class Measured:
    """What the requests to one model came to.

    Attributes:
        requests: sent and ended, whatever the answer.
        errors: wrong answers and none.
        shed: turned away with 503, because the model's queue was full.
        seconds: that the run took.
        times: number of requests that were not shed, by duration in ms, which Locust rounds to two digits.
    """

    requests: int = 0
    errors: int = 0
    shed: int = 0
    seconds: float = 0.0
    times: Mapping[int, int] = field(default_factory=dict)

    def since(self, earlier: "Measured") -> "Measured":
        """What came after an earlier moment of the same run."""
        return Measured(
            self.requests - earlier.requests,
            self.errors - earlier.errors,
            self.shed - earlier.shed,
            self.seconds - earlier.seconds,
            {time: count - earlier.times.get(time, 0) for time, count in self.times.items()},
        )

    def percentile(self, share: float) -> float:
        """The shortest time, in ms, within which at least this share of the requests ended; infinite for none."""
        total, seen = sum(self.times.values()), 0
        for time in sorted(self.times):
            seen += self.times[time]
            if total and seen >= share * total:
                return time
        return float("inf")


class Verdict(NamedTuple):
    """One objective of one model, and what was measured."""

    model: str
    objective: str
    limit: float
    measured: float
    met: bool

    def __str__(self) -> str:
        sign = "at least" if self.objective == "throughput" else "at most"
        return f"{self.model}: {self.objective} is {self.measured:.4g}, but must be {sign} {self.limit:.4g}"


def judge(model: str, objectives: Objectives, measured: Measured, recovery: Measured | None = None) -> list[Verdict]:
    """Compare one model's measurements with its objectives.

    Args:
        model: its name.
        objectives: of the model in the profile that ran.
        measured: of the whole run.
        recovery: of the stage of that name alone, where the profile has one.
    """
    count = max(1, measured.requests)
    at_most = {
        "p95_ms": (objectives.p95_ms, measured.percentile(0.95)),
        "p99_ms": (objectives.p99_ms, measured.percentile(0.99)),
        "error_ratio": (objectives.error_ratio, measured.errors / count),
        "shed_ratio": (objectives.shed_ratio, measured.shed / count),
    }
    if recovery is not None and objectives.recovery_p95_ms is not None:
        at_most["recovery_p95_ms"] = (objectives.recovery_p95_ms, recovery.percentile(0.95))
    verdicts = [Verdict(model, name, limit, found, found <= limit) for name, (limit, found) in at_most.items()]
    right = measured.requests - measured.errors - measured.shed
    rate = right / measured.seconds if measured.seconds else 0.0
    return [*verdicts, Verdict(model, "throughput", objectives.throughput, rate, rate >= objectives.throughput)]


def failed(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Those that were not met."""
    return [verdict for verdict in verdicts if not verdict.met]
