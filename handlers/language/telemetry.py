"""Instruments of a language model's worker beside those of every model: its tokens, and how full its engine is."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from handlers.contract import ModelContract
from handlers.language.generation import Drafts, Usage
from handlers.observe.telemetry import MODEL

FIRST = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)  # s
EACH = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)  # s


class LanguageTelemetry:
    """Records the steps of a language model in a registry's instruments."""

    def __init__(self, contract: ModelContract, registry: CollectorRegistry) -> None:
        names = {"model": contract.name, "version": contract.version}

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, MODEL, registry=registry, buckets=buckets).labels(**names)

        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, MODEL, registry=registry).labels(**names)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, MODEL, registry=registry, multiprocess_mode="livesum").labels(**names)

        self._first = histogram("llm_time_to_first_token_seconds", "From request received to its first token", FIRST)
        self._each = histogram("llm_time_per_output_token_seconds", "From each token of an answer to its next", EACH)
        self._prompt = counter("llm_prompt_tokens", "Tokens of prompts that were answered")
        self._generated = counter("llm_generated_tokens", "Tokens that were generated")
        self._drafted = counter("llm_draft_tokens", "Tokens of answers that were drafted")
        self._accepted = counter("llm_accepted_draft_tokens", "Drafted tokens that the model chose")
        self._running = gauge("llm_running_requests", "Requests that have a slot")
        self._preempted = counter("llm_preemptions", "Times that a request lost its slot, so that others had room")
        self._preemptions = 0
        self._filled = gauge("llm_kv_cache_usage_ratio", "Share of the key-value cache that running requests hold")

    def first_token(self, seconds: float, prompt: int) -> None:
        """Record the seconds from a request to its first token, and the tokens of its prompt."""
        self._first.observe(seconds)
        self._prompt.inc(prompt)

    def next_token(self, seconds: float) -> None:
        """Record the seconds from a token to the next one of the same request."""
        self._each.observe(seconds)

    def finished(self, drafts: Drafts) -> None:
        """Record what was drafted of an answer that is finished."""
        self._drafted.inc(drafts.drafted)
        self._accepted.inc(drafts.accepted)

    def stepped(self, usage: Usage, generated: int) -> None:
        """Record a step of the engine."""
        self._generated.inc(generated)
        self._preempted.inc(usage.preemptions - self._preemptions)
        self._preemptions = usage.preemptions
        self._running.set(usage.running)
        self._filled.set(usage.kv_used / usage.kv_total)

    def idle(self) -> None:
        """Record that nothing runs."""
        self._running.set(0)
        self._filled.set(0)
