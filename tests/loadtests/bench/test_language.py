import sys
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import chain, combinations
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from handlers.language.scheduling.batching import ContinuousBatching
from loadtests.bench.__main__ import app
from loadtests.bench.language import contenders, model, report
from loadtests.bench.language import results as figures
from loadtests.bench.language.answers import Answer, decoding, end_to_end, first_token, gaps, p95
from loadtests.bench.language.contenders import Contender, Started
from loadtests.bench.language.goals import goals
from loadtests.bench.language.in_process import generate
from loadtests.bench.language.measurement import agreement, cold, turn
from loadtests.bench.language.prompts import LENGTH, LONG, LONGEST, NEW, SHORTEST, draw_prompts
from loadtests.bench.language.results import (
    DIRECT,
    IN_PROCESS,
    LLAMA_SERVER,
    MACHINE,
    OURS,
    TRANSFORMERS,
    Results,
    Sample,
)
from loadtests.bench.page import Goal
from serving.processes import StartError
from serving.registry import ArchiveError, Registry
from serving.settings import ROOT
from tests.support.chat_archive import register_echo
from tests.support.documents import evaluated
from tests.support.handlers.generating import ToyDecoder
from tests.support.handlers.smollm2 import CACHE, chat_store, quantized

EARLY = Answer("ab", [1.0, 2.0, 3.0, 4.0], prompt=4)
LATE = Answer("cd", [2.5, 3.5, 4.5], sent=2.0)
WAITS = """
import json, sys
print("noise")
print("ready", flush=True)
for line in sys.stdin:
    task = json.loads(line)
    if task["max_tokens"] > 9: sys.exit("too many")
    print(json.dumps([{"text": one.upper(), "times": [0.5]} for one in task["prompts"]]), flush=True)
"""


def engine() -> ContinuousBatching:
    """Each letter is a token, and the answers are letters."""
    return ContinuousBatching(ToyDecoder(slots=8, context=2000, vocabulary=128, batch=512))


def test_rates_count_what_comes_while_all_are_answered() -> None:
    assert first_token(LATE) == 0.5
    assert decoding([EARLY]) == 1.0
    assert decoding([EARLY, LATE]) == (2 + 1) / (4.0 - 2.5)
    assert end_to_end([EARLY, LATE]) == 7 / 4.5
    assert gaps([EARLY, LATE], 2.0, 3.5) == [1.0, 1.0]
    assert p95([1.0] * 90 + [9.0] * 10) == 9.0
    with pytest.raises(ValueError, match="complete before another began"):
        decoding([EARLY, Answer("e", [5.0, 6.0])])


def test_prompts_have_their_length_and_begin_differently_and_their_answers_their_length() -> None:
    inside = engine()
    drawn = draw_prompts(inside, 2, 3, 1)
    measured = [*drawn.warm_up, *drawn.alone, *drawn.together]
    tokens = [inside.tokenize(text, False) for text in (*measured, *drawn.systems, *drawn.long)]
    assert [len(one) for one in tokens[: len(measured)]] == [LENGTH] * 8
    assert len(tokens[-1]) == LONG
    tokens += [inside.tokenize(text, False) for text in (*drawn.longest, *chain(*drawn.shortest))]
    assert [len(one) for one in tokens[-6:]] == [LONGEST] * 2 + [SHORTEST] * 4
    assert all(one[0] != other[0] for one, other in combinations(tokens, 2))
    assert {len(drawn.expected[text]) for text in (*drawn.alone, *drawn.together)} == {NEW}


def test_a_turn_gives_every_figure_and_finds_the_answers_at_once_equal_to_those_alone() -> None:
    drawn = draw_prompts(engine(), 2, 3, 1)
    inside = engine()

    def ask(prompts: Sequence[str], max_tokens: int) -> list[Answer]:
        return generate(inside, prompts, max_tokens)

    found = dict(
        turn(Contender(IN_PROCESS, "", lambda *_: nullcontext(Started(ask)), remembers=True), Started(ask), drawn, 0)
    )
    assert found[figures.SAME_ALONE] == found[figures.SAME] == found[figures.AGREES] == 1
    assert found[figures.DECODING] > 0
    assert found[figures.EARLIEST] <= found[figures.LATEST]


def test_a_prompt_that_was_known_gives_no_cold_figure() -> None:
    assert cold([Answer("", [], cached=3)])
    with pytest.raises(ValueError, match="100 of a cold prompt's 128 tokens"):
        cold([Answer("", [], prompt=128, cached=100)])


def test_texts_agree_up_to_their_first_difference() -> None:
    assert agreement("abcd", "abxd") == 0.5
    assert agreement("abcd", "abcd") == 1
    assert agreement("ab", "abcd") == 1


def test_a_program_is_asked_line_by_line_and_its_end_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WAITS]
    with contenders.generator(command, {}, tmp_path) as started:
        assert [answer.text for answer in started.ask(["a", "b"], 1)] == ["A", "B"]
        with pytest.raises(StartError, match="too many"):
            started.ask(["a"], 10)


def test_only_a_language_model_that_is_champion_is_measured(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="run `make train MODEL=chat`"):
        model.unpack(Registry(tmp_path), "chat", tmp_path / "model", CACHE)
    register_echo(tmp_path, "chat", 1, 1, 0)
    with pytest.raises(ValueError, match="is no language model"):
        model.unpack(Registry(tmp_path), "chat", tmp_path / "model", CACHE)


def test_peers_get_the_weights_of_an_archive_whatever_its_engine_reads(tmp_path: Path) -> None:
    unpacked = model.unpack(Registry(chat_store()), "chat", tmp_path / "model", CACHE)
    assert unpacked.weights.read_bytes() == quantized(tmp_path / "q.gguf").read_bytes()
    assert (unpacked.directory / "contract.json").is_file()


def measured() -> Results:
    results = Results(
        started="2026-11-26T08:00:00+00:00",
        rounds=3,
        machine={"processor": "a CPU", "cores": "2", "memory": "24 GiB", "system": "Linux", "python": "3.11"},
        titles={one.name: one.what for one in contenders.contenders(Path("anywhere"))},
        weights=100_000_000,
        settings={"handler": {"engine": "llama.cpp"}},
        evaluation=evaluated({"perplexity": 10.1}, baselines={"float32": {"perplexity": 10.0}}),
    )
    rates = {OURS: 90.0, DIRECT: 93.0, IN_PROCESS: 95.0, TRANSFORMERS: 12.0, LLAMA_SERVER: 60.0}
    for number in range(3):
        for name, rate in rates.items():
            results.samples.append(Sample(number, name, figures.ALONE, rate + number))
        results.samples.append(Sample(number, MACHINE, figures.BANDWIDTH, 30e9))
        results.samples.append(Sample(number, OURS, figures.SAME, 1.0 if number else 0.5))
        results.samples.append(Sample(number, OURS, figures.IDLE_GAP.format(1), 0.01))
        results.samples.append(Sample(number, OURS, figures.BUSY_GAP.format(1), 0.04))
    return results


def goal(text: str) -> Goal:
    return next(one for one in goals(measured()) if one.text.startswith(text))


def test_each_goal_has_its_figure_and_whether_it_is_met() -> None:
    assert goal("one stream, against transformers") == Goal(
        "one stream, against transformers", "≥ 6 ×", "7.00 × (6.57–7.50)", True
    )
    assert goal("one stream, against the engine").met is False  # 0.947 of it
    assert goal("one stream by the direct host, against the engine").met is True
    assert goal("8 streams decoding, against one").met is None
    assert goal("gaps of 1 stream").met is False
    assert goal("one stream, share").measured == "30 % (30 %–31 %)"
    assert goal("perplexity").met is True
    assert goal("batched answers") == Goal("batched answers equal to the one alone", "all", "50 %", False)


def test_the_tables_are_written_again_from_the_results_beside_the_page(tmp_path: Path) -> None:
    page, results = tmp_path / "page.md", measured()
    results.absent[LLAMA_SERVER] = "cannot be installed: no\nwheel"
    page.write_text("# Words\n")
    page.with_suffix(".json").write_bytes(msgspec.json.encode(results))
    done = CliRunner().invoke(app, ["language", "--again", "--page", str(page)])
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert text.startswith(f"# Words\n\n{report.MARKS.begin}\n")
    assert "ours are computed by llama.cpp." in text
    assert "(pictures/page.png)" in text
    assert (tmp_path / "pictures/page.png").is_file()
    assert "| Marloop, over HTTP through TorchServe | 91 (90–92) |" in text
    assert "| llama-cpp-python's own server | cannot be installed: no wheel |" in text


def test_an_unknown_contender_is_refused_with_the_names_of_those_there_are(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["language", "--only", "vllm", "--page", str(tmp_path / "page.md")])
    assert done.exit_code == 1
    assert "there are marloop, marloop-direct, in-process, transformers, llama-cpp-python" in done.output


@pytest.mark.parametrize("name", ["language-model", "engines/llama"])
def test_the_committed_page_is_what_the_committed_results_give(tmp_path: Path, name: str) -> None:
    committed = ROOT / "docs" / name
    page = tmp_path / f"{committed.name}.md"
    for suffix in (".md", ".json"):
        page.with_suffix(suffix).write_bytes(committed.with_suffix(suffix).read_bytes())
    done = CliRunner().invoke(app, ["language", "--again", "--page", str(page)])
    assert done.exit_code == 0, done.output
    assert page.read_bytes() == committed.with_suffix(".md").read_bytes()
    stored = committed.with_suffix(".json").read_bytes()
    again = msgspec.json.encode(msgspec.json.decode(stored, type=Results))
    assert msgspec.json.decode(again) == msgspec.json.decode(stored)
