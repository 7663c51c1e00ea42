"""The Model dashboard: the inside of one model's workers, version beside version."""

from grafana_foundation_sdk.builders import dashboard

from monitoring.grafana.panels import (
    CHOSEN,
    MODEL,
    Panel,
    board,
    distribution,
    number,
    or_zero,
    query,
    rate,
    requests_answered,
    series,
    signed,
    with_rows,
)


def model() -> dashboard.Dashboard:
    """Return the dashboard."""
    empty = board("marloop-model", "Marloop: Model", "Inside the workers: stages, batches, answers, refused input.")
    rows = {"Loaded": _loaded(), "Speed": _speed(), "Batches": _batches(), "Answers": _answers()}
    return with_rows(empty, rows)


def _loaded() -> list[Panel]:
    short = f'label_replace(model_info{{{CHOSEN}}}, "sha", "$1", "sha", "(.{{8}}).*")'
    info = f"sum by (model, version, engine, sha) ({short})"
    return [
        series(
            "What is loaded",
            "Workers by model, version, engine and the first digits of the graph's SHA-256. Two versions at once: a "
            "new one is taking over.",
            "none",
            [query(info, MODEL + ", {{engine}}, {{sha}}")],
            width=12,
            stacked=True,
        ),
        series(
            "Time to load",
            "From a worker's start of loading to its first right answer, the slowest worker: how long a replaced one "
            "is missing.",
            "s",
            [query(f"max by (model, version) (model_load_duration_seconds{{{CHOSEN}}})", MODEL)],
            width=6,
        ),
        requests_answered("Requests", width=6),
    ]


def _speed() -> list[Panel]:
    by = "model, version, stage"
    mean = " / ".join(rate(f"model_stage_duration_seconds_{part}", by) for part in ("sum", "count"))
    slow = rate("model_stage_duration_seconds_bucket", f"{by}, le")
    legend = MODEL + " {{stage}}"
    return [
        series(
            "Stages of a batch, mean",
            "Where a batch's time goes: decode reads and checks requests, predict runs the graph, encode writes the "
            "answers.",
            "s",
            [query(mean, legend)],
            width=8,
            stacked=True,
        ),
        series(
            "Stages of a batch, p99",
            "A stage that is far slower here than in the mean is slow for some inputs only.",
            "s",
            [query(f"histogram_quantile(0.99, {slow})", legend)],
            width=8,
        ),
        distribution(
            "Time of a request in the worker",
            "How many requests took how long. Two bands are two kinds of requests, or two versions.",
            "s",
            "model_request_duration_seconds",
            width=8,
        ),
    ]


def _batches() -> list[Panel]:
    return [
        distribution(
            "Requests in a batch",
            "How many batches had how many requests, up to the bound. Always 1: nothing is gained by batching at this "
            "traffic.",
            "none",
            "model_batch_requests",
            width=8,
        ),
        distribution(
            "Rows in a batch",
            "How many batches had how many rows, which the graph ran at once. One request may hold up to 1,024.",
            "none",
            "model_batch_rows",
            width=8,
        ),
        number(
            "Rows",
            "Rows predicted a second, over all chosen models.",
            "cps",
            or_zero(rate("model_batch_rows_sum")),
            width=8,
        ).height(8),
    ]


def _answers() -> list[Panel]:
    labels = rate("model_predictions_total", "model, version, label")
    reasons = rate("model_input_errors_total", "model, reason")
    values = rate("model_prediction_value_bucket", "model, version, le")
    return [
        series(
            "Classes predicted",
            "Rows by their likeliest class. A class that grows without a reason is a sign of drift. 0 where no "
            "classifier is chosen.",
            "cps",
            [query(or_zero(labels, "label"), MODEL + " {{label}}")],
            width=8,
            stacked=True,
        ),
        signed(
            "Values predicted",
            "A tenth, half and nine tenths of a regression's values lie below these lines, in its contract's unit. A "
            "shift without a reason is a sign of drift. 0 where no regression is chosen.",
            "none",
            [
                query(or_zero(f"histogram_quantile({q}, {values})", "model"), f"{MODEL} {name}")
                for name, q in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9))
            ],
            width=8,
        ),
        series(
            "Input refused, by reason",
            "Requests that got a 4xx from a worker, by the code in its answer. Many of one kind: a client sends what "
            "the contract does not allow.",
            "reqps",
            [query(or_zero(reasons, "reason"), "{{model}} {{reason}}")],
            width=8,
            stacked=True,
        ),
    ]
