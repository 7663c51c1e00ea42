import msgspec

from handlers.contract.model_card import Evaluation, Lineage, Speed, Tuning
from handlers.contract.task_results import RegressionPrompt, TaskResult, TaskScore
from tests.support.chat_archive import contract, echoed
from training.report.language import render_language_page

WHOLE = msgspec.structs.replace(
    contract("chat", echoed("Hello")),
    evaluation=Evaluation(
        primary="perplexity",
        rows=512,
        metrics={"perplexity": 20.9},
        baselines={"float32": {"perplexity": 20.7}},
        speed=Speed({"1": 72.0, "8": 156.0}, 0.3, 128, 64, "a machine", "openvino"),
        instructions=Tuning(20.7, 6, 105.0, 23.5),
        tasks=(TaskResult("quiz", "acc", 16, scores={"float32": TaskScore(0.75, 0.1), "served": TaskScore(0.5, 0.1)}),),
        prompts=(
            RegressionPrompt({"prompt": "1, 2,"}, "", " 3"),
            RegressionPrompt({"messages": [{"role": "user", "content": "<b>Who?</b>"}]}, "^A", "A fox."),
        ),
    ),
    lineage=Lineage(preset="q8_0", created="2026-11-30T00:00:00+00:00", parity={"rows": 512}),
)


def test_the_page_has_perplexity_tasks_prompts_and_speed() -> None:
    page = " ".join(render_language_page(WHOLE).split())
    for said in (
        "chat 1.0",
        "20.9000",
        "0.7500 ± 0.1000",
        "0.5000 ± 0.1000",
        "1, 2,",
        "as it is",
        "A fox.",
        "72 tokens",
    ):
        assert said in page
    assert "105.0000 before and 23.5000 after" in page
    assert "parity" in page
    assert "&lt;b&gt;Who?&lt;/b&gt;" in page
    assert "<b>" not in page


def test_a_version_without_tasks_and_prompts_has_no_empty_tables() -> None:
    bare = msgspec.structs.replace(WHOLE, evaluation=Evaluation(primary="perplexity", metrics={"perplexity": 3.0}))
    page = render_language_page(bare)
    for part in ("Tasks", "Prompts", "Speed", "Fine-tuning"):
        assert part not in page
