"""The goals, each with its bound and the measured value."""

from handlers.contract.model_card import Evaluation
from loadtests.bench.language import results as figures
from loadtests.bench.language.prompts import LONGEST, SHORTEST
from loadtests.bench.language.results import (
    DIRECT,
    IN_PROCESS,
    LLAMA_SERVER,
    LLAMA_TUNED,
    MACHINE,
    OURS,
    TRANSFORMERS,
    Results,
)
from loadtests.bench.page import Goal, at_least, at_most
from loadtests.bench.results import Spread, ratio, spread


def goals(results: Results) -> list[Goal]:
    """Return every goal, in order."""

    def against(figure: str, other: str, theirs: str = "") -> Spread | None:
        return ratio(results.values(OURS, figure), results.values(other, theirs or figure), float)

    def direct(figure: str, other: str, theirs: str = "") -> Spread | None:
        return ratio(results.values(DIRECT, figure), results.values(other, theirs or figure), float)

    firsts = against(figures.EARLIEST, OURS, figures.LATEST)
    listed = [
        at_least("one stream, against transformers", 6, against(figures.ALONE, TRANSFORMERS)),
        at_least("one stream, against the engine in process", 0.95, against(figures.ALONE, IN_PROCESS)),
        at_least("8 streams decoding, against transformers at batch 8", 3, against(figures.DECODING, TRANSFORMERS)),
        at_least("8 streams decoding, against one stream", 1.8, against(figures.DECODING, OURS, figures.ALONE)),
        at_least("8 × (128 + 64 tokens), end to end, against llama-cpp-python's server", 5,
                 against(figures.END_TO_END, LLAMA_SERVER)),
        at_least("the same, against that server with all cores", 2.5, against(figures.END_TO_END, LLAMA_TUNED)),
        at_least("one stream by the direct host, against the engine in process", 0.95,
                 direct(figures.ALONE, IN_PROCESS)),
        at_least("8 streams by it, end to end, against that server with all cores", 2.5,
                 direct(figures.END_TO_END, LLAMA_TUNED)),
        at_most("first token, idle, against in process", 1.15, against(figures.FIRST, IN_PROCESS)),
        at_most("8 cold arrivals, the first one's first token against the last one's", 0.25, firsts),
        at_least("first token, cold against a known system prompt", 5,
                 against(figures.COLD, OURS, figures.WARM_SYSTEM)),
        at_least("first token, cold against known earlier turns", 5, against(figures.COLD, OURS, figures.WARM_TURNS)),
        at_most(f"first token of {SHORTEST} tokens while {LONGEST:,} are read, against alone", 1.5,
                against(figures.NEWCOMER, OURS, figures.NEWCOMER_ALONE)),
        at_most("the same by the direct host", 1.5, direct(figures.NEWCOMER, DIRECT, figures.NEWCOMER_ALONE)),
    ]  # fmt: skip
    for count in figures.BESIDE:
        gap = against(figures.BUSY_GAP.format(count), OURS, figures.IDLE_GAP.format(count))
        text = f"gaps of {count} stream{'s' * (count > 1)} while 1,000 tokens are prefilled, p95 against idle"
        listed.append(at_most(text, 3, gap))
    return [*listed, *_bandwidth(results), _perplexity(results.evaluation), _same(results)]


def _bandwidth(results: Results) -> list[Goal]:
    """State the share of the memory bandwidth: each token needs all weights once; streams together share them."""
    measured = results.values(MACHINE, figures.BANDWIDTH)
    shares = []
    for figure, text, together in (
        (figures.ALONE, "one stream", 1),
        (figures.DECODING, "8 streams decoding", figures.TOGETHER),
    ):
        share = ratio(results.values(OURS, figure), measured, float)
        name = f"{text}, share of the memory-bandwidth limit"
        scale = results.weights / together
        words = (
            "–" if share is None else f"{share.median * scale:.0%} ({share.low * scale:.0%}–{share.high * scale:.0%})"
        )
        shares.append(Goal(name, "stated", words.replace("%", " %"), None if share is None else True))
    return shares


def _perplexity(evaluation: Evaluation) -> Goal:
    text, bound = "perplexity, against float32", "≤ 1.02 ×"
    ours = evaluation.metrics.get("perplexity")
    reference = (evaluation.baselines or {}).get("float32", {}).get("perplexity")
    if not (ours and reference):
        return Goal(text, bound, "–", None)
    return Goal(text, bound, f"{ours / reference:.4f} × ({ours:.2f} and {reference:.2f})", ours / reference <= 1.02)


def _same(results: Results) -> Goal:
    same = spread(results.values(OURS, figures.SAME), float)
    measured = "–" if same is None else f"{same.low:.0%}".replace("%", " %")
    return Goal("batched answers equal to the one alone", "all", measured, None if same is None else same.low == 1)
