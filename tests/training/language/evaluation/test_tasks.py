"""lm-eval's tasks from files, on a tiny model: what its own aggregation says, document by document."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from serving.settings import ROOT
from tests.support.training.tiny import SENTENCE, Tiny
from training.data import DataError
from training.language.evaluation import tasks as reading
from training.language.evaluation.tasks import Tasks, read_tasks, run_tasks
from training.language.evaluation.text_models import NetworkTextModel

pytest.importorskip("lm_eval", reason="lm-eval, of the extra evaluate, is not installed")

CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{start}}",
    "doc_to_choice": "ends",
    "doc_to_target": "right",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
ROWS: list[dict[str, Any]] = [
    {"start": "The tide turns", "ends": [" at nine", " at noon"], "right": 1},
    {"start": "The tide turns at noon, then the", "ends": [" boats go out.", " coats go out."], "right": 0},
    {"start": "The tide turns at noon, then the", "ends": [" boats go out.", " coats go out."], "right": 1},
]


@pytest.fixture
def model(taught: Tiny) -> NetworkTextModel:
    return NetworkTextModel(taught.module, taught.tokenizer, taught.metadata, 256)


def write(folder: Path, name: str, rows: list[dict[str, Any]], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}}, "test_split": "test"}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"task": name, **data, **config}))
    return file


def read(path: Path) -> Tasks:
    return read_tasks(path, path.parent / "cache", {})


def test_a_choice_is_right_where_the_model_finds_the_right_one_likeliest(
    model: NetworkTextModel, tmp_path: Path
) -> None:
    (scores,) = run_tasks(read(write(tmp_path / "quiz", "quiz", ROWS, **CHOICE)), model)
    assert (scores.task, scores.metric, scores.higher_is_better) == ("quiz", "acc", True)
    assert scores.sums.tolist() == [1, 1, 0]
    assert scores.score.value == pytest.approx(2 / 3)


def test_no_bar_of_lm_eval_runs_into_what_is_printed(
    model: NetworkTextModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_tasks(read(write(tmp_path / "quiz", "quiz", ROWS, **CHOICE)), model)
    assert capfd.readouterr() == ("", "")


def test_a_text_is_foreseen_from_the_token_that_begins_conversations(
    taught: Tiny, model: NetworkTextModel, tmp_path: Path
) -> None:
    config = {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}],
    }
    texts = [SENTENCE, ("Then the boats go out. " * 12).strip()]  # of which one is longer than the context
    path = write(tmp_path / "texts", "texts", [{"text": text} for text in texts], **config)
    small = NetworkTextModel(taught.module, taught.tokenizer, taught.metadata, 64)
    (scores,) = run_tasks(read(path), small)
    assert scores.sizes.tolist() == [len(text.split()) for text in texts]
    (own,) = model.score([[1, *model.tokenize(SENTENCE)]])
    assert scores.sums[0] == pytest.approx(own.logprobs.sum(), rel=1e-4)
    assert not scores.higher_is_better
    assert np.isfinite(scores.sums).all()


def test_an_answer_is_generated_up_to_the_tasks_strings(model: NetworkTextModel, tmp_path: Path) -> None:
    config = {
        "output_type": "generate_until",
        "doc_to_text": "{{start}}",
        "doc_to_target": "{{end}}",
        "generation_kwargs": {"until": [","], "do_sample": False, "max_gen_toks": 20},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    rows = [{"start": "The tide turns", "end": end} for end in (" at noon", " at nine")]
    (scores,) = run_tasks(read(write(tmp_path / "ends", "ends", rows, **config)), model)
    assert scores.sums.tolist() == [1, 0]


def test_a_folder_has_all_its_tasks_and_its_hash_is_of_their_data_too(model: NetworkTextModel, tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / "both", name, ROWS, **CHOICE)
    tasks = read(tmp_path / "both")
    assert [scores.task for scores in run_tasks(tasks, model)] == ["a", "b"]
    write(tmp_path / "both", "a", ROWS[:2], **CHOICE)
    assert read(tmp_path / "both").sha256 != tasks.sha256
    assert [scores.task for scores in run_tasks(read(tmp_path / "both" / "b.yaml"), model)] == ["b"]


def test_the_projects_own_tasks_can_be_read(tmp_path: Path) -> None:
    tasks = read_tasks(ROOT / "docs" / "examples" / "tasks", tmp_path, {})
    assert tasks.names == ("capitals", "sentences", "sequences")


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("task: [", "is no YAML"),
        ("- 1", "holds no task: it must be a mapping"),
        ("tag: x", "holds no task: a file ends with .yaml and has the key `task`"),
        ("task: x\ndataset_path: EleutherAI/arithmetic", "which lm-eval would fetch; data must lie in files"),
        (
            "task: x\ndataset_path: json\ndataset_kwargs: {data_files: {test: missing.jsonl}}\ntest_split: test",
            "missing",
        ),
    ],
)
def test_what_is_no_task_from_files_is_refused_in_a_sentence(
    model: NetworkTextModel, tmp_path: Path, content: str, wrong: str
) -> None:
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(DataError, match=wrong) as raised:
        run_tasks(read(tmp_path / "x.yaml"), model)
    assert "\n" not in str(raised.value)


def test_a_metric_that_is_no_mean_over_documents_is_refused_by_name(model: NetworkTextModel, tmp_path: Path) -> None:
    path = write(tmp_path / "f", "f", ROWS, **(CHOICE | {"metric_list": [{"metric": "f1"}]}))
    with pytest.raises(DataError, match="the task f has the metric f1, which is no mean over documents"):
        run_tasks(read(path), model)


def test_a_task_that_samples_is_refused(model: NetworkTextModel, tmp_path: Path) -> None:
    config = {
        "output_type": "generate_until",
        "doc_to_text": "{{start}}",
        "doc_to_target": "",
        "generation_kwargs": {"until": [","], "do_sample": True, "temperature": 1.0},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    with pytest.raises(DataError, match="samples its answers"):
        run_tasks(read(write(tmp_path / "s", "s", ROWS, **config)), model)


def test_without_lm_eval_it_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"not installed: run `pip install -c constraints.txt -e '.\[evaluate\]'`"):
        read(tmp_path)


def test_the_reader_of_data_fetches_nothing_and_keeps_what_the_user_has_set(tmp_path: Path) -> None:
    environ = {"HF_DATASETS_CACHE": "mine"}
    read_tasks(ROOT / "docs" / "examples" / "tasks", tmp_path, environ)
    assert environ == reading.OFFLINE | {"HF_DATASETS_CACHE": "mine"}
