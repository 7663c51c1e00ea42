"""Two versions of a tiny model on a real engine: what must stay, who wins, and what decides a promotion."""

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from serving.registry import ArchiveError, Registry
from serving.settings import Folders
from tests.support.documents import document
from tests.support.training.tiny import ANSWER, EXPECTED, SENTENCE, Tiny
from tests.training.language.evaluation.test_tasks import CHOICE, ROWS, write
from tests.training.language.test_chat_recipe import packed
from training.__main__ import app
from training.data import DataError
from training.language import pipeline
from training.language.engines import MODULES
from training.language.evaluation.comparison import Trial, compare_versions
from training.language.evaluation.opened import open_version
from training.language.evaluation.regressions import read_prompts
from training.language.evaluation.tasks import read_tasks
from training.language.recipe import LanguageHyperparameters, LanguageRecipe, LanguageServing
from training.packaging.registration import Result, TrainOptions
from training.statistics.pair import Pair

VERSIONS = Pair("1.0", "1.1")
WOOD = {"instruction": "Where?", "response": "In the wood."}
ANYTHING = {"prompt": "The", "max_tokens": 1, "matches": "."}  # a prompt that may be answered in any way
FORESEEN = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "word_perplexity"}],
}


@dataclass(frozen=True)
class World:
    """A store with a champion, and a version that was fine-tuned to answer otherwise."""

    registry: Registry
    cache: Path
    first: Result
    second: Result


def write_lines(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def train(taught: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    """Train a version with the engine that is installed."""
    if not any(map(importlib.util.find_spec, MODULES.values())):
        pytest.skip("no engine of language models is installed")
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "passage.txt").write_text(SENTENCE)
    hp = LanguageHyperparameters(epochs=8, lr=1e-2)
    expected = replace(EXPECTED, perplexity=1000)  # what it was taught by heart it may forget
    recipe = LanguageRecipe(
        "tiny", "a tiny model", packed(taught, folder / "cache"), expected, {"default": hp}, LanguageServing(2, 256)
    )

    def train(registry: Registry, **options: Any) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "PASSAGE", folder / "passage.txt")
            return pipeline.train(recipe, registry, Folders(folder / "cache"), TrainOptions(**options))

    return train


@pytest.fixture(scope="module")
def world(train: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("versions")
    registry = Registry(folder / "store")
    prompts = write_lines(
        folder / "prompts.jsonl",
        {"prompt": "The tide turns", "max_tokens": 40},
        {"messages": [{"role": "user", "content": EXPECTED.question}], "matches": "fox"},
    )
    told = write_lines(folder / "told.jsonl", *[WOOD] * 20)
    first = train(registry, prompts=prompts)
    return World(registry, folder / "cache", first, train(registry, instructions=told))


def test_a_version_carries_its_prompts_with_its_answers_and_the_next_one_is_asked_them(world: World) -> None:
    first, second = (result.contract.evaluation.prompts for result in (world.first, world.second))
    assert [prompt.answer for prompt in first] == [SENTENCE[14:], ANSWER]
    assert [prompt.request for prompt in second] == [prompt.request for prompt in first]
    assert [prompt.matches for prompt in second] == ["", "fox"]


def test_a_version_that_changes_what_must_stay_is_refused_with_the_prompt_and_both_answers(world: World) -> None:
    assert (world.first.state, world.second.state) == ("champion", "challenger")
    assert "is answered with" in world.second.why
    assert repr(SENTENCE[14:]) in world.second.why or repr(ANSWER) in world.second.why
    assert "see `marloop promote tiny 1.1`" in world.second.why


def test_a_file_of_prompts_takes_the_place_of_the_champions(world: World, tmp_path: Path) -> None:
    held_out = [[{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "In the wood."}]] * 12
    kept = compare_versions(world.registry, "tiny", VERSIONS, Trial(conversations=held_out))
    assert (kept.promotes, kept.won and kept.won.share) == (False, 1)
    assert kept.reason == world.second.why.removesuffix(": see `marloop promote tiny 1.1`")
    other = read_prompts(write_lines(tmp_path / "other.jsonl", ANYTHING))
    too_long = [held_out[0][0], {"role": "assistant", "content": "In the wood. " * 60}]
    trial = Trial(conversations=[*held_out, too_long], prompts=other, only_fitting=True)
    freed = compare_versions(world.registry, "tiny", VERSIONS, trial)
    assert freed.promotes
    assert freed.reason.startswith("it finds the given answer likelier in 100% of 12 conversations")


def test_who_foresees_held_out_answers_worse_is_not_promoted(world: World) -> None:
    known = [[{"role": "user", "content": EXPECTED.question}, {"role": "assistant", "content": ANSWER}]] * 12
    lost = compare_versions(world.registry, "tiny", VERSIONS, Trial(conversations=known, prompts=()))
    assert not lost.promotes
    assert "likelier in 0% of 12 conversations" in lost.reason
    same = compare_versions(world.registry, "tiny", Pair("1.0", "1.0"), Trial(conversations=known, prompts=()))
    assert same.reason.startswith(
        "it is neither better nor worse beyond chance: it finds the given answer likelier in 50%"
    )


def test_a_champion_whose_archive_was_lost_does_not_stop_a_training(train: Callable[..., Result], store: Path) -> None:
    (store / "tiny-1.0.mar").unlink()
    assert train(Registry(store), promote="always").state == "champion"


def test_an_unknown_version_and_another_kind_of_model_are_refused(world: World) -> None:
    with (
        pytest.raises(ArchiveError, match=r"tiny 9.9 is not registered; there are 1.0, 1.1"),
        open_version(world.registry, "tiny", "9.9"),
    ):
        pass


def test_tasks_stand_in_the_contract_and_a_version_that_is_worse_in_one_does_not_replace_the_champion(
    train: Callable[..., Result], tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval, of the extra evaluate, is not installed")
    folder, registry = tmp_path / "tasks", Registry(tmp_path / "store")
    write(folder, "known", [{"text": SENTENCE[: 20 + 2 * i]} for i in range(12)], **FORESEEN)
    write(folder, "quiz", ROWS[:2] * 8, **CHOICE)
    first = train(registry, tasks=folder)
    known, quiz = first.contract.evaluation.tasks
    assert quiz.scores.keys() == known.scores.keys() == {"float32", "served"}
    assert (quiz.rows, quiz.scores["served"].value) == (16, 1)
    second = train(registry, tasks=folder, instructions=write_lines(tmp_path / "told.jsonl", *[WOOD] * 20))
    after = second.contract.evaluation.tasks
    assert after[0].scores.keys() == {"float32", "tuned", "served", "champion"}
    assert [result.scores["champion"] for result in after] == [result.scores["served"] for result in (known, quiz)]
    assert second.state == "challenger"
    assert "word_perplexity of the task known is" in second.why
    assert "worse beyond chance on the same 12 documents" in second.why
    page = second.report.read_text() if second.report else ""
    assert "float32, fine-tuned" in page
    assert "quiz" in page
    assert document(second.contract.evaluation)["tasks"][0]["sha256"] == read_tasks(folder, tmp_path, {}).sha256


def test_tasks_that_cannot_be_read_end_a_training_before_its_work(train: Callable[..., Result], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not installed|holds no task"):
        train(Registry(tmp_path / "store"), tasks=tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        train(Registry(tmp_path / "store"), prompts=tmp_path / "none.jsonl")
    assert not (tmp_path / "store").exists()


@pytest.fixture
def store(world: World, tmp_path: Path) -> Path:
    """A store of the test's own with both versions."""
    return Path(shutil.copytree(world.registry.store, tmp_path / "copied"))


def evaluate(store: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["evaluate", "tiny", "--store", str(store), *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, " ".join(done.output.split())


def talks(path: Path, *lines: dict[str, Any]) -> str:
    return str(write_lines(path, *lines))


def test_a_version_that_proves_better_is_promoted_and_the_history_says_why(store: Path, tmp_path: Path) -> None:
    held_out = talks(tmp_path / "held-out.jsonl", *[WOOD] * 12)
    free = talks(tmp_path / "free.jsonl", ANYTHING)
    options = ("--version", "1.1", "--held-out", held_out, "--prompts", free)
    code, output = evaluate(store, *options)
    assert (code, Registry(store).champion("tiny").number) == (0, "1.0")
    assert "tiny 1.1 is better than 1.0: it finds the given answer likelier in 100% of 12" in output
    code, output = evaluate(store, *options, "--promote", "--json")
    document = json.loads(output[output.index("{") :])
    assert (code, document["better"], document["promoted"], document["win_rate"]["share"]) == (0, True, True, 1)
    registry = Registry(store)
    assert registry.champion("tiny").number == "1.1"
    assert registry.promotions()[-1].why == document["reason"]


def test_a_version_that_changes_what_must_stay_is_not_promoted_and_the_exit_code_says_so(
    store: Path, tmp_path: Path
) -> None:
    held_out = talks(tmp_path / "held-out.jsonl", *[WOOD] * 12)
    code, output = evaluate(store, "--version", "1.1", "--held-out", held_out, "--promote")
    assert code == 1
    assert "tiny 1.1 does not prove better than 1.0, and stays a challenger: " in output
    assert "is answered with" in output
    assert Registry(store).champion("tiny").number == "1.0"


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ((), "--tasks is needed"),
        (("--version", "1.0", "--promote"), "--tasks is needed; --held-out and --promote are for another --version"),
        (("--version", "1.1"), "nothing tells which version is better: give --tasks, --held-out or both"),
        (("--version", "9.9", "--held-out", "FILE"), "tiny 9.9 is not registered; there are 1.0, 1.1"),
        (("--version", "1.1", "--held-out", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_told_in_a_sentence(
    world: World, tmp_path: Path, options: tuple[str, ...], wrong: str
) -> None:
    file = talks(tmp_path / "held-out.jsonl", *[WOOD] * 12)
    code, output = evaluate(world.registry.store, *(file if option == "FILE" else option for option in options))
    assert code == 1
    assert wrong in output


def test_the_champion_is_measured_as_it_is_served_and_its_page_is_written_anew(store: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval, of the extra evaluate, is not installed")
    quiz = write(tmp_path / "quiz", "quiz", ROWS[:2] * 8, **CHOICE)
    code, output = evaluate(store, "--tasks", str(quiz), "--cache", str(tmp_path / "cache"))
    assert code == 0, output
    assert "quiz" in output
    assert "1.0000 ± 0.0000" in (store / "reports" / "tiny-1.0.html").read_text()
    code, output = evaluate(store, "--tasks", str(quiz), "--cache", str(tmp_path / "cache"), "--json")
    (result,), _ = json.JSONDecoder().raw_decode(re.sub(r".*?(?=\[ ?\{)", "", output, count=1))
    assert (result["task"], result["scores"]["served"]["value"]) == ("quiz", 1)


def test_a_models_tokenizer_is_written_from_its_file(taught: Tiny, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["tokenizer", str(taught.path), "--output", str(tmp_path / "tokenizer")])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "tokenizer").iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    done = CliRunner().invoke(app, ["tokenizer", "linear", "--output", str(tmp_path / "other")])
    assert done.exit_code == 1
    assert "linear is no language model, which a tokenizer is of" in " ".join(done.output.split())
