"""The model card of a contract (Mitchell et al. 2019): what the training data looked like, held-out metrics, lineage.

What is absent in ``contract.json`` has its default here, and a default is not written: archives of former versions lack
fields. A number that could not be computed is null.
"""

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Number = int | float | None
Metrics = dict[str, Number]  # by name; None where the rows do not tell
Interval = tuple[Number, Number]


class Stretch(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far so many rows of so much time are from the reference where nothing drifts.

    Attributes:
        span: hours from begin to end of a stretch; 0 where the reference has no times.
        hours: that the rows must cover at least, as ``training.statistics.usual.hours_of`` counts them.
        rows: that there must be at least.
        windows: how many stretches the known time holds side by side.
        mean: of the root of the distance.
        sd: of the same.
        psi: which one stretch in a hundred exceeds.
        loss_mean: of the loss, on a scale where its spread hardly depends on its size; None but of errors.
        loss_sd: its standard deviation.
    """

    span: float
    hours: float
    rows: int
    windows: float
    mean: float
    sd: float
    psi: float
    loss_mean: float | None = None
    loss_sd: float | None = None


class Usual(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is usual of one distribution; of archives of former versions ``window`` and what follows it.

    Attributes:
        known: rows of the reference.
        cell: hours that count as one.
        entries: by span, then by rows.
        window: rows of a stretch without times.
    """

    known: int | None = None
    cell: float | None = None
    entries: tuple[Stretch, ...] = ()
    window: int | None = None
    windows: float | None = None
    mean: float | None = None
    sd: float | None = None
    psi: float | None = None


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """A distribution: quantiles of numbers, evenly spaced, both ends included, or counts of categories."""

    quantiles: list[float | None] | None = None
    counts: dict[str, int] | None = None
    usual: Usual | None = None

    @property
    def numbers(self) -> NDArray[np.float64]:
        """The quantiles, NaN for what training could not count; empty where there are none."""
        return np.array(self.quantiles or [], np.float64)


class Reference(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the rows that a version knows looked like.

    A tensor of more than one value a row is summarised by the mean of each row, a text by its number of characters.

    Attributes:
        rows: how many.
        inputs: by name.
        output: of the served module, or counts of its labels.
        errors: answer − truth, or counts of right and wrong.
    """

    rows: int | None = None
    inputs: dict[str, Summary] = {}
    output: Summary | None = None
    errors: Summary | None = None


class Decides(msgspec.Struct, frozen=True):
    """The metric that a recipe names to decide between versions; see ``training.statistics.criteria``."""

    metric: str
    label: str = ""
    precision: float = 0.0
    costs: tuple[tuple[float, ...], ...] = ()


class Lead(msgspec.Struct, frozen=True):
    """How much better a model is than a baseline on the same rows, with its interval."""

    value: Number
    interval: Interval


class ClassMetrics(msgspec.Struct, frozen=True):
    """Metrics of one class against the others."""

    label: str
    precision: Number
    recall: Number
    f1: Number
    auc: Number
    rows: int


class Bin(msgspec.Struct, frozen=True):
    """Answers of about the same confidence: how many, their mean confidence, the share that is right."""

    rows: int
    confidence: Number
    accuracy: Number


class Scaled(msgspec.Struct, frozen=True):
    """Calibration error and log loss if logits were divided by the temperature."""

    ece: Number
    log_loss: Number


class Calibration(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the probabilities of a classification mean what they say.

    Attributes:
        ece: the expected calibration error.
        log_loss: in nats.
        bins: those that have rows.
        temperature: fitted on validation rows.
        scaled: what it would change.
    """

    ece: Number
    log_loss: Number
    bins: list[Bin] = []
    temperature: float | None = None
    scaled: Scaled | None = None


class Speed(msgspec.Struct, frozen=True):
    """How fast a language model generates; ``tokens_per_second`` by the number of streams."""

    tokens_per_second: dict[str, float]
    first_token_seconds: float
    prompt_tokens: int
    generated_tokens: int
    machine: str
    engine: str


class Tuning(msgspec.Struct, frozen=True):
    """Perplexity of a plain passage before fine-tuning, and of held-out answers before and after it."""

    passage_before: float
    rows: int
    before: float
    after: float


class Evaluation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Held-out metrics, and the baselines that they beat.

    Attributes:
        primary: the metric that decides; absent of a part of the rows.
        criterion: what a recipe named instead of its task's metric.
        rows: that were held out.
        baselines: metrics of each; None where there is no record of any.
        unmeasured: by metric, why these rows do not tell it.
        intervals: of 95 %, by metric; one that these rows do not tell has none.
        gains: the lead over each baseline in the metric that decides.
        confusion: counts, a row for each true class, a column for each answer.
        slices: parts of the rows by name, each measured by itself.
        held_out_since: time of the first row, where feedback was held out: such figures say nothing beside others.
        learned: rows and metrics of the rows that the model learned from.
    """

    primary: str = ""
    criterion: Decides | None = None
    rows: int | None = None
    metrics: Metrics = {}
    baselines: dict[str, Metrics] | None = None
    unmeasured: dict[str, str] = {}
    intervals: dict[str, Interval] | None = None
    gains: dict[str, Lead] | None = None
    per_class: list[ClassMetrics] = []
    confusion: list[list[int]] = []
    calibration: Calibration | None = None
    slices: dict[str, "Evaluation"] = {}
    speed: Speed | None = None
    instructions: Tuning | None = None
    held_out_since: str = ""
    learned: "Evaluation | None" = None

    def compared(self, model: str) -> dict[str, Metrics]:
        """Return the metrics of the model, under this name, and of each baseline."""
        return {model: self.metrics, **(self.baselines or {})}

    def interval(self, metric: str) -> Interval | None:
        """Return the interval of a metric; None where it has none."""
        return (self.intervals or {}).get(metric)


class FeedbackRows(msgspec.Struct, frozen=True):
    """Labelled rows that a version knows beside its recipe's own.

    Attributes:
        rows: that fit the contract.
        held_out: of these, the newest.
        since: time of the oldest.
        until: time of the newest.
        held_out_since: time of the first that is held out.
        sha256: of the file.
        refused: rows that did not fit.
    """

    rows: int
    held_out: int
    since: str
    until: str
    held_out_since: str
    sha256: str
    refused: int


class RowCounts(msgspec.Struct, frozen=True):
    """How many rows were learned and how many held out."""

    train: int
    test: int


class Conversations(msgspec.Struct, frozen=True):
    """What a language model was fine-tuned on: the file's SHA-256, conversations learned and held out."""

    sha256: str
    rows: int
    held_out: int


class Optimized(msgspec.Struct, frozen=True, omit_defaults=True):
    """A variant of a former version that replaced it: its name, of which version, and its number format if not FP32."""

    variant: str = ""
    of: str = ""
    converted: str = ""


class Lineage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a version comes from.

    Attributes:
        temperature: that the graph divides logits by.
        until: time of the newest row that the version knows, learned or held out.
        weights: of a language model, the package and the file that they were taken from.
        hyperparameters: as the recipe names them.
        fit_seconds: how long fitting took.
        history: the learning curve, thinned; each entry by what was recorded.
        packages: versions by name.
        created: ISO 8601.
        parity: ``rows`` that were compared, and how far each engine is from the module.
        optimized: an ``Optimized`` with everything that was measured of it; empty where it is none.
        graph_sha256: by file.
        packaged_from: the version whose graphs were packaged again.
    """

    temperature: float | None = None
    feedback: FeedbackRows | None = None
    until: str | None = None
    git_commit: str = ""
    data_sha256: str = ""
    weights: str = ""
    license: str | None = None
    preset: str = ""
    hyperparameters: dict[str, Any] = {}
    rows: RowCounts | None = None
    fit_seconds: float | None = None
    history: list[Metrics] | None = None
    packages: dict[str, str] = {}
    created: str = ""
    instructions: Conversations | None = None
    parity: dict[str, int | float] = {}
    optimized: dict[str, Any] = {}
    graph_sha256: dict[str, str] = {}
    packaged_from: str = ""

    @property
    def epochs(self) -> list[dict[str, float]]:
        """The learning curve, with NaN for what was not finite."""
        return [{name: math.nan if x is None else x for name, x in epoch.items()} for epoch in self.history or []]

    @property
    def differences(self) -> dict[str, float]:
        """How far each engine is from the module: the parity without its rows."""
        return {name: value for name, value in self.parity.items() if name != "rows"}

    @property
    def variant(self) -> Optimized | None:
        """The variant that an optimization made; None of what a training made."""
        return msgspec.convert(self.optimized, Optimized) if self.optimized else None
