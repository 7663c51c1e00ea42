"""The Language model dashboard: how soon an answer begins, how fast it goes on, and how full the engine is."""

from grafana_foundation_sdk.builders import dashboard

from monitoring.grafana.panels import (
    CHOSEN,
    MODEL,
    WINDOW,
    Panel,
    board,
    distribution,
    number,
    or_zero,
    quantiles,
    query,
    rate,
    series,
    with_rows,
)

FIRST, EACH = "llm_time_to_first_token_seconds", "llm_time_per_output_token_seconds"
RUNNING = "llm_running_requests"
GENERATES = f"and on (model, version) {RUNNING}"  # restricts a metric of all models to language models


def language() -> dashboard.Dashboard:
    """Return the dashboard."""
    text = "What those who chat notice, and what the engine of a language model does meanwhile."
    empty = board("marloop-language", "Marloop: Language model", text, of=RUNNING)
    return with_rows(empty, {"Now": _now(), "Speed": _speed(), "Engine": _engine(), "Requests": _requests()})


def _now() -> list[Panel]:
    slow, each = (f"histogram_quantile(0.95, {rate(f'{metric}_bucket', 'le')})" for metric in (FIRST, EACH))
    return [
        number(
            "First token, p95",
            "95 % of the answers began sooner, from request received. The objective is 2.5 s.",
            "s",
            or_zero(slow),
            ((2.5, "red"),),
        ),
        number("Each further token, p95", "95 % of the tokens followed the one before sooner.", "s", or_zero(each)),
        number(
            "Generated",
            "Tokens a second, for all requests together.",
            "cps",
            or_zero(rate("llm_generated_tokens_total")),
        ),
        number("Read", "Tokens of prompts a second.", "cps", or_zero(rate("llm_prompt_tokens_total"))),
        number("Running", "Requests that have a slot now.", "none", f"sum({RUNNING}{{{CHOSEN}}})"),
        number(
            "Key-value cache",
            "Share that running requests hold, of the fullest worker.",
            "percentunit",
            f"max(llm_kv_cache_usage_ratio{{{CHOSEN}}})",
            ((0.9, "orange"),),
        ),
    ]


def _speed() -> list[Panel]:
    objective = query("objective:time_to_first_token_p95:seconds", "objective of p95")
    return [
        series(
            "Time to first token",
            "From request received to its first token: the wait for a slot, and the reading of the prompt. What waits "
            "in the frontend is not in it. Slow while few run: prompts are long, or nothing of them was known.",
            "s",
            [*quantiles(FIRST, "model, version", MODEL), objective],
        ),
        series(
            "Time per output token",
            "From each token of an answer to its next. It grows with the requests that run, and jumps while a long "
            "prompt is read.",
            "s",
            quantiles(EACH, "model, version", MODEL),
        ),
        distribution(
            "Times to first token",
            "How many answers began after how long. Two bands: prompts whose beginning was known, and others.",
            "s",
            FIRST,
        ),
        distribution(
            "Times per output token",
            "How many tokens followed after how long. Two bands: with a prompt read beside them, and without.",
            "s",
            EACH,
        ),
    ]


def _engine() -> list[Panel]:
    prompt, generated = (rate(f"llm_{kind}_tokens_total", "model, version") for kind in ("prompt", "generated"))
    return [
        series(
            "Tokens",
            "Read from prompts and generated, a second. Generated tokens level off while more requests run: the "
            "machine is at its limit.",
            "cps",
            [query(generated, MODEL + " generated"), query(prompt, MODEL + " of prompts")],
            width=8,
        ),
        series(
            "Requests that run",
            "They share every step of the engine. At the number of slots the others wait.",
            "none",
            [query(f"sum by (model, version) ({RUNNING}{{{CHOSEN}}})", MODEL)],
            width=8,
        ),
        series(
            "Key-value cache",
            "Share that running requests hold, of the fullest worker. Near 100 % new ones wait, whatever slots are "
            "free.",
            "percentunit",
            [query(f"max by (model, version) (llm_kv_cache_usage_ratio{{{CHOSEN}}})", MODEL)],
            width=8,
        ),
    ]


def _requests() -> list[Panel]:
    answered = f"sum by (code) (rate(model_requests_total{{{CHOSEN}}}{WINDOW}) {GENERATES})"
    reasons = f"sum by (reason) (rate(model_input_errors_total{{{CHOSEN}}}{WINDOW}) {GENERATES})"
    return [
        series(
            "Requests by status",
            "499: the client left before the end. 503: more waited than the engine lets. 500 is ours: the log has the "
            "traceback.",
            "reqps",
            [query(answered, "{{code}}")],
            width=8,
            stacked=True,
        ),
        series(
            "Input refused, by reason",
            "Requests that got a 4xx, by the code in the answer, and those whose client left.",
            "reqps",
            [query(or_zero(reasons, "reason"), "{{reason}}")],
            width=8,
            stacked=True,
        ),
        series(
            "Wait for the worker, mean",
            "Time in the frontend's queue, over a minute: it comes on top of the time to first token. Once the queue "
            "is full clients get 503.",
            "s",
            [
                query(f'model:queue_wait_seconds:mean1m{{model=~"$model"}} and on (model) {RUNNING}', "{{model}}"),
                query("objective:queue_wait:seconds", "objective"),
            ],
            width=8,
        ),
    ]
