"""The model card of a contract (Mitchell et al. 2019): training data, held-out metrics, lineage.

Archives of former versions lack fields: one that is absent in ``contract.json`` has its default, and a default is not
written. A number that could not be computed is null.
"""

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from handlers.contract.task_results import RegressionPrompt, TaskResult

Number = int | float | None
Metrics = dict[str, Number]  # by name; None where the rows do not suffice
Interval = tuple[Number, Number]


class Stretch(msgspec.Struct, frozen=True, omit_defaults=True):
    """Usual distance between the reference and a stretch of so many rows and hours without drift.

    Attributes:
        span: hours from begin to end of a stretch; 0 where the reference has no times.
        hours: least number that the rows must cover, as ``training.statistics.usual.hours_of`` counts them.
        rows: least number.
        windows: stretches that fit side by side into the reference's time.
        mean: of the root of the distance.
        sd: of the root of the distance.
        psi: exceeded by one stretch in a hundred.
        loss_mean: of the loss, on a scale where its spread hardly depends on its size; None except for errors.
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
    """Usual distances of a distribution; archives of former versions have ``window`` and the fields after it.

    Attributes:
        known: rows of the reference.
        cell: hours that count as one.
        entries: sorted by span, then by rows.
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
    """A distribution: quantiles of numbers, evenly spaced, both ends included, or counts of categories.

    Attributes:
        missing: of a nullable input, counts of present and of missing values; all else is of the present ones.
    """

    quantiles: list[float | None] | None = None
    counts: dict[str, int] | None = None
    usual: Usual | None = None
    missing: "Summary | None" = None

    @property
    def numbers(self) -> NDArray[np.float64]:
        """The quantiles, with NaN for null; empty where there are none."""
        return np.array(self.quantiles or [], np.float64)


class Reference(msgspec.Struct, frozen=True, omit_defaults=True):
    """Distributions of the rows that a version knows.

    A tensor of more than one value a row is summarised by the mean of each row, a text by its number of characters.

    Attributes:
        output: of the served module, or counts of its labels; of several targets the first.
        errors: answer − truth, or counts of right and wrong; of several targets the first.
        targets: output and errors of the targets after the first, by name.
    """

    rows: int | None = None
    inputs: dict[str, Summary] = {}
    output: Summary | None = None
    errors: Summary | None = None
    targets: dict[str, "Reference"] = {}


class Decides(msgspec.Struct, frozen=True):
    """The metric that a recipe names to decide between versions; see ``training.statistics.criteria``."""

    metric: str
    label: str = ""
    precision: float = 0.0
    costs: tuple[tuple[float, ...], ...] = ()


class Lead(msgspec.Struct, frozen=True):
    """Lead of a model over a baseline on the same rows, with its interval."""

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
    """Answers of about the same confidence: their number, mean confidence, and the share that is right."""

    rows: int
    confidence: Number
    accuracy: Number


class Scaled(msgspec.Struct, frozen=True):
    """Calibration error and log loss with logits divided by the temperature."""

    ece: Number
    log_loss: Number


class Calibration(msgspec.Struct, frozen=True, omit_defaults=True):
    """Calibration of a classification's probabilities.

    Attributes:
        ece: the expected calibration error.
        log_loss: in nats.
        bins: those that have rows.
        temperature: fitted on validation rows.
        scaled: figures with the temperature.
    """

    ece: Number
    log_loss: Number
    bins: list[Bin] = []
    temperature: float | None = None
    scaled: Scaled | None = None


class Speed(msgspec.Struct, frozen=True):
    """Speed of a language model; ``tokens_per_second`` by the number of streams."""

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
        primary: the metric that decides; empty for a part of the rows.
        criterion: named by the recipe instead of its task's metric.
        rows: number that was held out.
        baselines: metrics of each; None where none is recorded.
        unmeasured: reasons why these rows do not suffice for a metric, by metric.
        intervals: of 95 %, by metric; a metric for which the rows do not suffice has none.
        gains: the lead over each baseline in the metric that decides.
        confusion: counts, a row for each true class, a column for each answer.
        slices: parts of the rows by name, each measured by itself.
        tasks: of a language model, each metric of each task.
        prompts: of a language model, those whose answers must stay.
        held_out_since: time of the first row, where feedback was held out: such figures compare with no others.
        learned: rows and metrics of the training rows.
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
    tasks: tuple[TaskResult, ...] = ()
    prompts: tuple[RegressionPrompt, ...] = ()
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
        rows: number that fits the contract.
        held_out: number of these; the newest ones.
        since: time of the oldest.
        until: time of the newest.
        held_out_since: time of the first held-out row.
        sha256: of the file.
        refused: number that does not fit the contract.
    """

    rows: int
    held_out: int
    since: str
    until: str
    held_out_since: str
    sha256: str
    refused: int


class RowCounts(msgspec.Struct, frozen=True):
    """Numbers of learned and of held-out rows."""

    train: int
    test: int


class Conversations(msgspec.Struct, frozen=True):
    """Data of a fine-tuning: the file's SHA-256, conversations learned and held out."""

    sha256: str
    rows: int
    held_out: int


class AdapterCard(msgspec.Struct, frozen=True, omit_defaults=True):
    """A low-rank adapter beside a language model.

    Attributes:
        sha256: of its numbers.
        rank: of its widest change.
        perplexity: of the plain text, as the engine computes it with the adapter.
        base: the version that it was put beside.
        instructions: conversations that it learned here; None for one from elsewhere.
        tuning: what learning them brought; None for one from elsewhere.
    """

    sha256: str
    rank: int
    perplexity: float
    base: str
    instructions: Conversations | None = None
    tuning: Tuning | None = None


class Optimized(msgspec.Struct, frozen=True, omit_defaults=True):
    """A variant that replaced the version ``of``: its name, and its number format if not FP32."""

    variant: str = ""
    of: str = ""
    converted: str = ""


class Imported(msgspec.Struct, frozen=True):
    """Origin of a version that was trained elsewhere.

    Attributes:
        file: name of the file.
        kind: its format.
        opset: version of ONNX's standard operators.
    """

    file: str
    sha256: str
    kind: str
    opset: int


class RecipeSource(msgspec.Struct, frozen=True):
    """Source of a recipe that lies outside the project: its file's name, the commit of its repository, and a digest.

    Attributes:
        sha256: of the file and of those that recipes share in its folder, sorted by name.
    """

    file: str
    git_commit: str
    sha256: str


class Lineage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Origin of a version.

    Attributes:
        recipe: None for one of the project, which ``git_commit`` covers.
        temperature: divisor of the logits in the graph.
        until: time of the newest row that the version knows, learned or held out.
        weights: source of a language model's weights, a package and a file.
        hyperparameters: as the recipe names them.
        history: the learning curve, thinned; each entry by metric.
        packages: versions by name.
        created: ISO 8601.
        parity: ``rows`` that were compared, and the distance of each engine from the module.
        optimized: an ``Optimized`` with all its measurements; empty where it is none.
        graph_sha256: by file.
        packaged_from: the version whose graphs were packaged again.
        imported: None for a version that a recipe made.
        adapters: those beside a language model, by name.
    """

    temperature: float | None = None
    feedback: FeedbackRows | None = None
    until: str | None = None
    git_commit: str = ""
    recipe: RecipeSource | None = None
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
    imported: Imported | None = None
    adapters: dict[str, AdapterCard] = {}

    @property
    def epochs(self) -> list[dict[str, float]]:
        """The learning curve, with NaN for null."""
        return [{name: math.nan if x is None else x for name, x in epoch.items()} for epoch in self.history or []]

    @property
    def differences(self) -> dict[str, float]:
        """The distance of each engine from the module: the parity without its rows."""
        return {name: value for name, value in self.parity.items() if name != "rows"}

    @property
    def variant(self) -> Optimized | None:
        """The variant that an optimization made; None for a version that a training made."""
        return msgspec.convert(self.optimized, Optimized) if self.optimized else None
