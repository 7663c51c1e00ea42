"""The practices that people recite, and for each where it is in this repository and how its effect is read."""

from collections.abc import Mapping
from typing import Any

from training.figures.figure import figure
from training.improve.practices.practice import Effect, Practice
from training.improve.practices.tuning import TUNING


def _against(baseline: str) -> Effect:
    """The deciding metric with its interval, and a baseline's."""

    def effect(result: Mapping[str, Any]) -> str:
        name = result["primary"]
        low, high = result["intervals"].get(name) or (None, None)
        model, *others = result["rows"]
        (other,) = [row for row in others if row["model"] == baseline]
        interval = f"{figure(low)} to {figure(high)}"
        return f"{name} {figure(model[name])} ({interval}) against {figure(other[name])} of the {baseline}"

    return effect


def _calibrated(result: Mapping[str, Any]) -> str:
    found = result["calibration"]
    return f"ECE {found['ece']:.4f} → {found['scaled']['ece']:.4f} with temperature {found['temperature']:.2f}"


def _parity(result: Mapping[str, Any]) -> str:
    found = result["parity"]
    return f"largest difference from PyTorch {found['onnxruntime']:.1e}, over {found['rows']:,} rows"


def _variant(name: str) -> Effect:
    """What one variant of an optimization gains and loses."""

    def effect(result: Mapping[str, Any]) -> str:
        found = [row for row in result["rows"] if row["variant"] == name]
        if not found:
            return f"not made: {result['left_out'][name]}"
        reference, (row,) = result["rows"][0], found
        return (
            f"{row['bytes'] / reference['bytes']:.0%} of the size, {row['speedup']:.2f} times as fast, "
            f"{row['drop']:+.2f} points of {result['primary']} lost "
            f"({row['drop_low']:+.2f} to {row['drop_high']:+.2f})"
        )

    return effect


def _distilled(result: Mapping[str, Any]) -> str:
    """What a teacher is worth to a small network."""
    rows = {row["variant"]: row for row in result["rows"]}
    taught, alone = (figure(rows[name][result["primary"]]) for name in ("distilled", "small"))
    return f"{result['primary']} {taught} taught, {alone} alone; {_variant('distilled')(result)}"


def _by_slice(metric: str, baseline: str) -> Effect:
    """A metric of each slice, and a baseline's."""

    def effect(result: Mapping[str, Any]) -> str:
        rows = {(row["slice"], row["model"]): row[metric] for row in result["slices"]}
        model = result["rows"][0]["model"]
        each = (
            f"{name} {figure(rows[name, model])} against {figure(rows[name, baseline])}"
            for name in dict.fromkeys(row["slice"] for row in result["slices"])
        )
        return f"{metric}: {', '.join(each)} of {baseline}"

    return effect


def _pretraining(name: str) -> Effect:
    """The shown metric of one slice with the fewest and with the most rows, from both starts."""

    def effect(result: Mapping[str, Any]) -> str:
        rows = [row for row in result["rows"] if row["slice"] == name]
        found = {(row["rows"], row["start"]): row[result["metric"]] for row in rows}
        each = (
            f"{figure(found[size, 'pretrained'])} against {figure(found[size, 'from scratch'])} with {size:,} rows"
            for size in (min(row["rows"] for row in rows), max(row["rows"] for row in rows))
        )
        return f"{result['metric']}, {name}, pretrained against from scratch: {'; '.join(each)}"

    return effect


def _exported(result: Mapping[str, Any]) -> str:
    each = ", ".join(f"{row['format']} {row['max_abs_difference']:.1e}" for row in result["rows"])
    return f"largest difference from PyTorch over {result['compared_rows']:,} rows: {each}"


def _drift(result: Mapping[str, Any]) -> str:
    known, _, later, *_ = result["rows"]
    return (
        f"{known['alarm']:.1%} of the windows from the known months alarm, {later['alarm']:.1%} of those from "
        f"{later['period']}"
    )


def _replayed(result: Mapping[str, Any]) -> str:
    found = result["goals"]
    if found["saved"] is None:
        return "not known: neither arm lived through a month from April to October"
    return (
        f"{found['saved']:.0%} less error from April to October than a version that is never retrained, with "
        f"{found['retrainings']} retrainings from March to December and {found['retrainings_known']} before"
    )


REPORT = "`python -m training report {}`"
OPTIMIZE = "`python -m training optimize {}`"
PRACTICES: tuple[Practice, ...] = (
    Practice(
        "Forward pass, loss, back-propagation: a linear regression",
        "`make train MODEL=linear`",
        ("training/recipes/linear.py", "training/fit.py"),
        "report-linear",
        _against("ridge regression"),
    ),
    *TUNING,
    Practice(
        "Evaluation against baselines, with confidence intervals",
        REPORT.format("fashion"),
        ("training/evaluate.py", "training/statistics/intervals.py"),
        "report-fashion",
        _against("ridge classifier"),
    ),
    Practice(
        "The same for a regression with real drift",
        REPORT.format("flights"),
        ("training/recipes/flights.py",),
        "report-flights",
        _against("ridge regression"),
    ),
    Practice(
        "Transfer learning: a pretrained encoder, fine-tuned, on texts of other sources too",
        "`make train MODEL=sentiment PRESET=full`",
        ("training/recipes/sentiment.py", "training/recipes/_minilm.py"),
        "report-sentiment",
        _by_slice("polarity", "VADER"),
    ),
    Practice(
        "What pretraining is worth on little data",
        "`python -m training learning-curve sentiment --metric polarity`",
        ("training/improve/learning_curve.py",),
        "learning-curve-sentiment",
        _pretraining("movie"),
    ),
    Practice(
        "Calibration: expected calibration error, temperature scaling",
        "`python -m training train fashion --calibrate`",
        ("training/statistics/calibration.py",),
        "report-fashion",
        _calibrated,
    ),
    Practice(
        "Eager PyTorch to train, a static graph to serve, with the preprocessing inside",
        "`make train MODEL=fashion`",
        ("training/packaging/export.py",),
        "report-fashion",
        _parity,
    ),
    Practice(
        "Export to ONNX, torch.export, TensorFlow Lite and OpenVINO",
        "`python -m training export fashion`",
        (
            "training/improve/formats/exporting.py",
            "training/improve/formats/litert.py",
            "training/improve/formats/openvino_ir.py",
        ),
        "export-fashion",
        _exported,
    ),
    Practice(
        "The same for a model of named features and categories",
        "`python -m training export flights`",
        ("training/improve/formats/litert_convert.py",),
        "export-flights",
        _exported,
    ),
    Practice(
        "Quantization: static int8, calibrated on training data",
        OPTIMIZE.format("fashion"),
        ("training/improve/optimize/quantize.py",),
        "optimize-fashion",
        _variant("int8 static"),
    ),
    Practice(
        "Quantization: dynamic int8 of a text encoder",
        OPTIMIZE.format("sentiment"),
        ("training/improve/optimize/quantize.py",),
        "optimize-sentiment",
        _variant("int8 dynamic"),
    ),
    Practice(
        "The same of a single linear layer, where there is nothing to gain",
        OPTIMIZE.format("flights"),
        ("training/improve/optimize/choose.py",),
        "optimize-flights",
        _variant("int8 static"),
    ),
    Practice(
        "Pruning: half of the channels removed, then fine-tuned",
        OPTIMIZE.format("fashion"),
        ("training/improve/optimize/students.py",),
        "optimize-fashion",
        _variant("pruned 50 %"),
    ),
    Practice(
        "Knowledge distillation: half of the channels, taught by the large network",
        OPTIMIZE.format("fashion"),
        ("training/improve/optimize/students.py",),
        "optimize-fashion",
        _distilled,
    ),
    Practice(
        "A serving framework and an API for other services",
        "`make up`",
        ("handlers/handler.py", "serving/hosts/torchserve/launch.py"),
        note="[performance.md](performance.md), beside five other servers",
    ),
    Practice(
        "Load tests with objectives",
        "`make load MODEL=flights`",
        ("loadtests/locustfile.py", "loadtests/slo.yaml"),
        note="[performance.md](performance.md)",
    ),
    Practice(
        "Monitoring: latency, throughput, errors, logs, alerts",
        "`make up`, `make status`",
        ("handlers/observe/telemetry.py", "handlers/observe/logs.py", "monitoring/live/probe.py"),
        note="[what is measured](monitoring.md#metrics)",
    ),
    Practice(
        "Monitoring on live data: drift",
        "`python -m monitoring calibrate flights`",
        ("monitoring/live/drift.py", "training/statistics/distribution.py"),
        "drift-flights",
        _drift,
    ),
    Practice(
        "Automatic retraining: triggered by the live error, judged, promoted, watched",
        "`make replay`",
        ("monitoring/retraining/queue.py", "monitoring/retraining/judging/judge.py", "monitoring/replay/drive.py"),
        "closed-loop",
        _replayed,
    ),
)
