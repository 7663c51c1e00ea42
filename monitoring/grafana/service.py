"""The Service dashboard: health of the service, and traffic, errors, latency and saturation to explain it.

These are the four golden signals of Google's Site Reliability Engineering, chapter 6.
"""

from grafana_foundation_sdk.builders import dashboard

from monitoring.grafana.panels import (
    CHOSEN,
    MODEL,
    QUANTILES,
    WINDOW,
    Panel,
    board,
    number,
    or_zero,
    quantiles,
    query,
    rate,
    requests_answered,
    series,
    states,
    with_rows,
)

BUDGET = "objective:error_budget:ratio"


def service() -> dashboard.Dashboard:
    """Return the dashboard."""
    empty = board("marloop-service", "Marloop: Service", "What clients get, per model and version.")
    rows = {
        "Now": _now(),
        "Traffic": _traffic(),
        "Errors": _errors(),
        "Latency": _latency(),
        "Saturation": _saturation(),
    }
    return with_rows(empty, rows)


def _now() -> list[Panel]:
    answering = query(f"max by (model, version) (probe_success{{{CHOSEN}}})", MODEL)
    budget_left = f'1 - slo:request_errors:ratio_rate3d{{scope="service"}} / on () {BUDGET}'
    return [
        states(
            "Do the models answer",
            "Whether each champion answered its contract's example right at the last probe, over HTTP, as a client "
            "asks.",
            answering,
            ("fails", "answers"),
            width=8,
        ),
        number(
            "Requests",
            "Requests that workers answer, the probes' own among them: one a model each second.",
            "reqps",
            or_zero(rate("model_requests_total")),
            width=3,
        ),
        number(
            "Errors",
            "Share of the last five minutes' requests that got a 5xx, from a worker or from the frontend itself. "
            "The objective is at most 0.5 %.",
            "percentunit",
            'slo:request_errors:ratio_rate5m{scope="service"}',
            ((0.005, "orange"), (0.072, "red")),
            width=3,
        ),
        number(
            "Error budget left",
            "Of the errors that three days may have at 99.5 %, the share that is left; below 0 it is overdrawn.",
            "percentunit",
            budget_left,
            width=4,
        ),
        number(
            "Slowest p99",
            "99 % of the probes of the slowest model were faster, over five minutes, the queue included. "
            "The objective is 0.2 s.",
            "s",
            f"max(model_version:probe_duration_seconds:p99_5m{{{CHOSEN}}})",
            ((0.2, "red"),),
            width=3,
        ),
        number(
            "Alerts",
            "Alerts that fire. Alertmanager and Prometheus show which, with what to do.",
            "none",
            or_zero('sum(ALERTS{alertstate="firing"})'),
            ((1, "red"),),
            width=3,
        ),
    ]


def _traffic() -> list[Panel]:
    own = [
        query(or_zero(f"sum(rate(Requests{kind}XX{WINDOW}))"), f"{kind}xx, all answers of the frontend")
        for kind in (2, 4, 5)
    ]
    return [
        requests_answered("Requests by model", width=8, stacked=True),
        series(
            "Requests by protocol",
            "How they were written: native JSON, KServe v1, Open Inference Protocol v2, NumPy or a picture.",
            "reqps",
            [query(rate("model_requests_total", "protocol"), "{{protocol}}")],
            width=8,
            stacked=True,
        ),
        series(
            "Answers of the frontend",
            "All that TorchServe answered on all its ports, by class of status: workers' answers, its own errors, "
            "health checks and scrapes. It does not tell models apart.",
            "reqps",
            own,
            width=8,
        ),
    ]


def _errors() -> list[Panel]:
    windows = ("5m", "1h", "6h", "3d")
    burn = [
        query(f'slo:request_errors:ratio_rate{window}{{scope="service"}} / on () {BUDGET}', f"over {window}")
        for window in windows
    ]
    return [
        series(
            "Answers of the workers by status",
            "4xx is a client's mistake (its reason is on the Model dashboard), 500 is ours: the log has the traceback.",
            "reqps",
            [query(rate("model_requests_total", "code"), "{{code}}")],
            width=6,
        ),
        series(
            "Answered by the frontend itself",
            "Requests that no worker saw. 5xx: the queue is full, or the worker died. 4xx: an unknown model, a body "
            "that is too large. Of the direct host, requests that name no served version.",
            "reqps",
            [
                query("service:frontend_errors:rate5m", "5xx"),
                query("service:frontend_refusals:rate5m", "4xx"),
            ],
            width=6,
        ),
        series(
            "Error ratio of the workers",
            "Share of a model's requests that got a 5xx from its worker, over five minutes, and the objective.",
            "percentunit",
            [
                query(f"model_version:model_request_errors:ratio_rate5m{{{CHOSEN}}}", MODEL),
                query(BUDGET, "objective"),
            ],
            width=6,
        ),
        series(
            "Burn rate of the error budget",
            "Errors of the whole service as a multiple of what 99.5 % allows: at 1 the budget of 30 days lasts 30 "
            "days. An alert wakes someone at 14.4 over an hour, or 6 over six.",
            "none",
            burn,
            width=6,
        ),
    ]


def _latency() -> list[Panel]:
    objective = query("objective:latency_p99:seconds", "objective of p99")
    return [
        series(
            "In the worker",
            "From batch received to batch answered, for each request in it: decoding, the graph, encoding. Percentiles "
            "are estimated between the bounds of buckets.",
            "s",
            [*quantiles("model_request_duration_seconds", "model, version", MODEL), objective],
        ),
        series(
            "For a client: the probe",
            "From asked to answered over HTTP, queue and frontend included. One probe a model each second: over "
            "short times p99 is simply the slowest.",
            "s",
            [*quantiles("probe_duration_seconds", "model, version", MODEL), objective],
        ),
    ]


def _saturation() -> list[Panel]:
    busy = rate("model_stage_duration_seconds_sum", "model, version")
    workers = f"count by (model, version) (process_resident_memory_bytes{{{CHOSEN}}})"
    mean = " / ".join(rate(f"model_batch_requests_{part}", "model, version") for part in ("sum", "count"))
    sent = rate("model_queue_duration_seconds_bucket", "le")
    return [
        series(
            "Wait for a worker, mean",
            "Time in the frontend's queue, over a minute. At 1,000 waiting requests clients get 503.",
            "s",
            [
                query('model:queue_wait_seconds:mean1m{model=~"$model"}', "{{model}}"),
                query("objective:queue_wait:seconds", "objective"),
            ],
            width=8,
        ),
        series(
            "Wait since sent",
            "From X-Request-Start, which a proxy or a client sends, or from when the direct host had the request, to "
            "batch received; 0 where neither tells.",
            "s",
            [query(or_zero(f"histogram_quantile({q}, {sent})"), name) for name, q in QUANTILES],
            width=8,
        ),
        series(
            "Workers busy",
            "Share of the time that a model's workers decode, predict or encode. Near 100 % the queue grows. The "
            "requests of a language model overlap: it has a dashboard of its own.",
            "percentunit",
            [query(f"{busy} / {workers} unless on (model, version) llm_running_requests", MODEL)],
            width=8,
        ),
        series(
            "Requests in a batch, mean",
            "Near 1: requests come one by one. Near the model's batchSize: they wait for each other.",
            "none",
            [query(mean, MODEL)],
        ),
        series(
            "Memory of the workers",
            "Resident memory of all workers of a model. It should be flat; if it grows for hours, something leaks.",
            "bytes",
            [query(f"sum by (model, version) (process_resident_memory_bytes{{{CHOSEN}}})", MODEL)],
            stacked=True,
        ),
    ]
