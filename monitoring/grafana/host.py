"""The Host dashboard: workers and the monitoring, from the services' own metrics; there is no node_exporter."""

from grafana_foundation_sdk.builders import dashboard

from monitoring.grafana.panels import (
    CHOSEN,
    MODEL,
    WINDOW,
    Panel,
    board,
    or_zero,
    query,
    rate,
    series,
    states,
    with_rows,
)

WATCHERS = 'job=~"prometheus|alertmanager"'


def host() -> dashboard.Dashboard:
    """Return the dashboard."""
    empty = board("marloop-host", "Marloop: Host", "Memory and time of the workers, and the health of the monitoring.")
    rows = {"Workers": _workers(), "Scrapes": _scrapes(), "Monitoring": _monitoring()}
    return with_rows(empty, rows)


def _workers() -> list[Panel]:
    busy = rate("model_stage_duration_seconds_sum", "model, version")
    return [
        series(
            "Memory of each worker",
            "Resident memory by process. A line that ends is a worker that ended; a new one took its place.",
            "bytes",
            [
                query(
                    f"sum by (model, version, pid) (process_resident_memory_bytes{{{CHOSEN}}})",
                    MODEL + ", process {{pid}}",
                )
            ],
            width=8,
        ),
        series(
            "Time spent on batches",
            "Seconds a second that all workers of a model decode, predict and encode: the cores that they use, if each "
            "runs on one thread. Language models left out: their requests overlap.",
            "none",
            [query(f"{busy} unless on (model, version) llm_running_requests", MODEL)],
            width=8,
            stacked=True,
        ),
        series(
            "Workers started anew",
            "How often each worker was replaced within a quarter of an hour, restarts of TorchServe left out.",
            "none",
            [query(or_zero("worker:worker_restarts:changes15m", "WorkerName"), "{{WorkerName}}")],
            width=8,
        ),
    ]


def _scrapes() -> list[Panel]:
    return [
        states(
            "Targets",
            "Whether Prometheus could read each target's metrics. locust is there only during a load test.",
            query("max by (job) (up)", "{{job}}"),
            ("down", "up"),
            width=24,
        ),
        series(
            "Time to scrape",
            "Above 4 s a scrape fails.",
            "s",
            [query("max by (job) (scrape_duration_seconds)", "{{job}}")],
        ),
        series(
            "Samples in a scrape",
            "It depends on the number of models and labels, never on requests: if it grows with traffic, that is a "
            "fault.",
            "none",
            [query("sum by (job) (scrape_samples_scraped)", "{{job}}")],
        ),
    ]


def _monitoring() -> list[Panel]:
    return [
        series(
            "CPU of Prometheus and Alertmanager",
            "Seconds of CPU a second.",
            "none",
            [query(f"sum by (job) (rate(process_cpu_seconds_total{{{WATCHERS}}}{WINDOW}))", "{{job}}")],
            width=6,
        ),
        series(
            "Memory of Prometheus and Alertmanager",
            "Resident memory. That of Prometheus follows the number of series.",
            "bytes",
            [query(f"sum by (job) (process_resident_memory_bytes{{{WATCHERS}}})", "{{job}}")],
            width=6,
        ),
        series(
            "Series in Prometheus",
            "Series that were written to lately.",
            "none",
            [query("sum(prometheus_tsdb_head_series)", "series")],
            width=6,
        ),
        series(
            "Alerts on their way",
            "Alerts that Prometheus sent to Alertmanager, and notifications that Alertmanager could not deliver.",
            "cps",
            [
                query(or_zero(f"sum(rate(prometheus_notifications_sent_total{WINDOW}))"), "sent"),
                query(or_zero(f"sum(rate(alertmanager_notifications_failed_total{WINDOW}))"), "not delivered"),
            ],
            width=6,
        ),
    ]
