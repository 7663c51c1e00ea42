"""The Quality dashboard: quality of the predictions, drift, labels and retrainings."""

from grafana_foundation_sdk.builders import dashboard, prometheus

from monitoring.grafana.panels import CHOSEN, MODEL, Panel, board, or_zero, query, series, signed, states, with_rows

FEATURE = "{{model}}, {{feature}}"


def quality() -> dashboard.Dashboard:
    """Return the dashboard."""
    text = "Predictions against the truth that came later, and drift against what the champion learned from."
    empty = board("marloop-quality", "Marloop: Quality", text)
    rows = {"Regression": _regression(), "Classification": _classification(), "Labels": _labels(), "Drift": _drift()}
    return with_rows(empty, rows | {"Retraining": _retraining()})


def _regression() -> list[Panel]:
    return [
        series(
            "Root mean squared error",
            "In the unit of the prediction, over the window of the monitor, between the ends of its 95 % interval. "
            "Above the value at training with its whole interval: the model has become worse.",
            "none",
            _with_interval("rmse"),
            width=8,
        ),
        series(
            "Mean absolute error",
            "As the root mean squared error, but large errors count no more than they are large.",
            "none",
            _with_interval("mae"),
            width=8,
        ),
        signed(
            "Bias",
            "Mean of answer − truth. Away from 0 while the spread stays: the level has shifted, which a retraining "
            "mends at once.",
            "none",
            _with_interval("bias", expected=False),
            width=8,
        ),
    ]


def _classification() -> list[Panel]:
    others = f'max by (model, version, metric) (model_quality{{{CHOSEN}, metric=~"precision|recall|f1"}})'
    return [
        series(
            "Accuracy",
            "Share of right answers over the window of the monitor, between the ends of its 95 % interval. Below the "
            "value at training with its whole interval: the model has become worse.",
            "percentunit",
            _with_interval("accuracy"),
            width=8,
        ),
        series(
            "Precision, recall, F1",
            "Each the mean over the classes. Recall falls alone: one class is missed more often.",
            "percentunit",
            [query(or_zero(others), MODEL + " {{metric}}")],
            width=8,
        ),
        series(
            "Area under the ROC curve",
            "How well the probabilities rank, the mean over the classes. If only accuracy falls, the classes have "
            "become more or less frequent.",
            "percentunit",
            _with_interval("auc"),
            width=8,
        ),
    ]


def _labels() -> list[Panel]:
    return [
        series(
            "Labelled rows",
            "Rows that the quality is of. Few rows make wide intervals; a line that falls to the ground: no truth "
            "arrives.",
            "none",
            [query(or_zero(f"max by (model, version) (model_quality_rows{{{CHOSEN}}})"), MODEL)],
        ),
        series(
            "Delay of labels",
            "Median time from the prediction to its truth: so old is what the quality tells.",
            "s",
            [query(or_zero(f"max by (model, version) (model_label_delay_seconds{{{CHOSEN}}})"), MODEL)],
        ),
    ]


def _drift() -> list[Panel]:
    alarm = 'max by (model, kind) (model_drift_alarm{model=~"$model"})'
    statistic, limit, index, rows = (
        f'max by (model, feature) (model_drift_{name}{{model=~"$model"}})'
        for name in ("statistic", "limit", "psi", "rows")
    )
    return [
        states(
            "Drift",
            "Of inputs, predictions and errors. As usual also where there are too few rows for a verdict.",
            query(f"1 - {alarm}", "{{model}}, {{kind}}"),
            ("drift", "as usual"),
            width=24,
        ),
        series(
            "Distance by its limit",
            "How far the newest rows are from the reference, as a share of what would alarm: above 1 is more than the "
            "ups and downs of the training's weeks. It counts once there are rows enough.",
            "none",
            [query(or_zero(f"{statistic} / {limit}"), FEATURE)],
            width=8,
        ),
        series(
            "Population stability index",
            "For those who are used to it. With few rows it is large without any drift; the drift report shows what is "
            "usual.",
            "none",
            [query(or_zero(index), FEATURE)],
            width=8,
        ),
        series(
            "Rows compared",
            "Of the newest ones. A verdict needs as many as the contract's window has.",
            "none",
            [query(or_zero(rows), FEATURE)],
            width=8,
        ),
    ]


def _retraining() -> list[Panel]:
    running, champion = (
        'max by (model) (retrain_running{model=~"$model"})',
        "max by (model, version) (model_champion_info",
    )
    outcomes = {
        "promoted": "model_promotions_total",
        "refused": "retrain_refusals_total",
        "rolled back": "model_rollbacks_total",
    }
    return [
        series(
            "Champion",
            "The version that is served: a line begins with its promotion and ends with that of another.",
            "none",
            [query(or_zero(f"{champion}{{{CHOSEN}}})"), MODEL)],
            width=6,
        ),
        series(
            "Retrainings under way",
            "Queued or running. A line that stays up: the job waits for TorchServe, or hangs until its limit.",
            "none",
            [query(or_zero(running), "{{model}}")],
            width=6,
        ),
        series(
            "Promoted, refused, rolled back",
            "Challengers so far, also by hand. Only refused ones: what was learned is no better on the newest rows. "
            "The monitor's decisions say why.",
            "none",
            [
                query(or_zero(f'max by (model) ({name}{{model=~"$model"}})'), f"{{{{model}}}} {label}")
                for label, name in outcomes.items()
            ],
            width=6,
        ),
        series(
            "Monitor that leads",
            "Of several monitors on one database, one measures, retrains and removes: its line is at 1.",
            "none",
            [query("max by (instance) (monitor_leader)", "{{instance}}")],
            width=6,
        ),
    ]


def _with_interval(metric: str, expected: bool = True) -> list[prometheus.Dataquery]:
    """Return queries for the metric, the ends of its interval, and its value on the held-out rows."""
    names = {"model_quality": metric, "model_quality_low": "from", "model_quality_high": "to"}
    names |= {"model_quality_expected": "at training"} if expected else {}
    chosen = f'{CHOSEN}, metric="{metric}"'
    return [
        query(or_zero(f"max by (model, version) ({name}{{{chosen}}})"), f"{MODEL} {label}")
        for name, label in names.items()
    ]
