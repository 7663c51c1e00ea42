"""EleutherAI's lm-eval, unmodified, scores a host by its API as it scores transformers on the same weights."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.settings import ROOT, HostName
from tests.integration.conftest import serve, settings_for
from tests.support.handlers.smollm2 import chat_store, quantized, weights
from training.language.gguf_file import read_gguf
from training.language.tokenizer import write_tokenizer

pytest.importorskip("lm_eval", reason="lm-eval, of the extra evaluate, is not installed")
pytest.importorskip("accelerate", reason="accelerate, of the extra evaluate, is not installed")

pytestmark = pytest.mark.evaluation  # a minute and a half of processor time a host
TASKS = ROOT / "docs" / "examples" / "tasks"
URLS: dict[HostName, str] = {"direct": "/v1", "torchserve": "/predictions/chat/1.0/v1"}
# Several prompts a request, and requests of one prompt at once: lm-eval has code of its own for each.
BATCHES: dict[HostName, dict[str, Any]] = {"direct": {"batch_size": 8}, "torchserve": {"num_concurrent": 4}}
ERROR = 0.02  # of a log-likelihood: the weights are the same 8 bits, and the engine adds in another order
Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=[*URLS])
def results(request: pytest.FixtureRequest) -> Iterator[Results]:
    """What transformers in float32 scored, and a host by completions and by chat completions: by run and task."""
    host: HostName = request.param
    trained = chat_store()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokenizer = folder / "tokenizer"
        write_tokenizer(read_gguf(weights())[0], tokenizer)
        quantized(folder / "model.gguf")
        file = {"pretrained": scratch, "gguf_file": "model.gguf", "tokenizer": str(tokenizer), "dtype": "float32"}
        reference = {"model": "hf", "model_args": file, "device": "cpu", "batch_size": 8}
        store = shutil.copytree(trained, folder / "store")
        with serve(settings_for(store, folder / "run", host=host)) as server:
            runs = {"transformers": reference, **api_runs(host, server.url + URLS[host], tokenizer)}
            yield evaluate(folder, runs)


def api_runs(host: HostName, url: str, tokenizer: Path) -> dict[str, Any]:
    """Return the run by completions, and a shorter one by chat completions."""
    completions = {"base_url": f"{url}/completions", "model": "chat", "tokenizer": str(tokenizer), **BATCHES[host]}
    conversations = {"base_url": f"{url}/chat/completions", "model": "chat", "tokenized_requests": False}
    return {
        "completions": {"model": "local-completions", "model_args": completions},
        "chat": {
            "model": "local-chat-completions",
            "model_args": conversations,
            "tasks": ["sequences"],
            "limit": 3,
            "apply_chat_template": True,
        },
    }


def evaluate(folder: Path, runs: dict[str, Any]) -> Results:
    """Let lm-eval score the runs in a process of its own, which fetches nothing."""
    offline = {
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.support.handlers.lm_eval_client", str(TASKS), json.dumps(runs)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | offline, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    results: Results = json.loads(done.stdout.splitlines()[-1])
    return results


def test_each_choice_has_the_log_likelihood_that_transformers_gives_it(results: Results) -> None:
    hosted, reference = (results[run]["capitals"]["answers"] for run in ("completions", "transformers"))
    for choices, expected in zip(hosted, reference, strict=True):
        assert [logprob for logprob, _ in choices] == pytest.approx([logprob for logprob, _ in expected], abs=ERROR)
        assert [is_greedy for _, is_greedy in choices] == [is_greedy for _, is_greedy in expected]


def test_each_text_has_the_perplexity_that_transformers_gives_it(results: Results) -> None:
    hosted, reference = (results[run]["sentences"] for run in ("completions", "transformers"))
    assert hosted["answers"] == [[pytest.approx(logprob, rel=2e-3)] for (logprob,) in reference["answers"]]
    assert hosted["metrics"] == pytest.approx(reference["metrics"], rel=2e-3)


def test_greedy_answers_are_those_of_transformers_up_to_the_strings_that_end_them(results: Results) -> None:
    assert results["completions"]["sequences"]["answers"] == results["transformers"]["sequences"]["answers"]


@pytest.mark.parametrize("task", ["capitals", "sequences"])
def test_the_scores_are_those_of_transformers(results: Results, task: str) -> None:
    hosted, reference = (results[run][task]["metrics"] for run in ("completions", "transformers"))
    assert hosted == reference
    assert all(0.3 < score <= 1 for score in hosted.values())  # better than by guessing


def test_conversations_are_answered_as_lm_eval_writes_them(results: Results) -> None:
    answers = results["chat"]["sequences"]["answers"]
    assert len(answers) == 3
    assert all(answer for (answer,) in answers)
