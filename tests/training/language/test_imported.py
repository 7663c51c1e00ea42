"""A GGUF file that somebody else made becomes a language model that is served."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from handlers.contract import ModelContract
from handlers.entry_points.chat import ChatService
from handlers.language.api.defaults import NO_DEFAULTS, Defaults, read_defaults
from handlers.language.handler import ChatHandler
from handlers.language.template import ChatTemplate
from serving import archive
from serving.registry import Registry
from tests.support.training import tiny as making
from tests.support.training.tiny import ANSWER, SENTENCE, Tiny
from training.__main__ import app
from training.data import DataError
from training.language import engines, imported
from training.language.engines import MODULES
from training.language.gguf_file import (
    QUANTIZATIONS,
    finish,
    open_reader,
    read_gguf,
    requantize,
    write_gguf,
    writer_like,
)
from training.language.imported import LanguageOptions, bring_language
from training.packaging.registration import Result

pytestmark = pytest.mark.skipif(
    not any(importlib.util.find_spec(module) for module in MODULES.values()),
    reason="no engine of language models is installed: pip install -e '.[chat]'",
)


def bring(file: Path, folder: Path, **options: Any) -> Result:
    return bring_language(file, Registry(folder / "store"), LanguageOptions(name="tide", **options))


def opened(path: Path, folder: Path) -> ChatHandler:
    archive.unpack(path, folder)
    contract = ModelContract.from_json((folder / archive.CONTRACT).read_bytes())
    _, engine = ChatService().load_engine(folder, archive.read_config(folder)["handler"])
    template = ChatTemplate((folder / "assets/chat_template.jinja").read_text(), engine.tokenize)
    return ChatHandler(contract, engine, template)


def written(tiny: Tiny, target: Path, kind: str) -> Path:
    """The file with its matrices in another kind of numbers."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    reader = open_reader(tiny.path)
    writer, number = writer_like(reader, target, "Q8_0"), GGMLQuantizationType[kind]
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if values.ndim > 1:
            writer.add_tensor(tensor.name, quantize(values, number), raw_dtype=number)
        else:
            writer.add_tensor(tensor.name, values)
    finish(writer)
    return target


def test_it_goes_on_as_its_weights_were_taught(taught: Tiny, tmp_path: Path) -> None:
    example = tmp_path / "example.json"
    example.write_text(json.dumps({"prompt": SENTENCE[:14], "max_tokens": 4, "temperature": 0}))
    result = bring(taught.path, tmp_path, example=example)
    assert (result.state, result.why) == ("champion", "the first version")
    handler = opened(result.archive, tmp_path / "unpacked")
    handler.check_example()
    answer, _ = handler.answer(json.dumps({"prompt": SENTENCE[:14], "max_tokens": 40, "temperature": 0}).encode())
    assert answer["text"] == SENTENCE[14:]
    lineage = handler.contract.lineage
    assert lineage.imported is not None
    assert (lineage.imported.file, lineage.imported.kind, lineage.license) == ("taught.gguf", "GGUF, llama", "cc0-1.0")
    assert abs(lineage.parity["perplexity"]) < 0.01


def test_it_answers_a_conversation_by_the_files_own_template(taught: Tiny, tmp_path: Path) -> None:
    handler = opened(bring(taught.path, tmp_path).archive, tmp_path / "unpacked")
    body = {"messages": [{"role": "user", "content": "Who?"}], "temperature": 0, "max_tokens": 30}
    answer, _ = handler.answer(json.dumps(body).encode())
    assert answer["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize("kind", ["F32", "BF16", "Q4_1", "Q5_0", "Q4_0", "F16"])
def test_each_kind_of_numbers_is_served_as_it_is_or_as_8_bits(taught: Tiny, tmp_path: Path, kind: str) -> None:
    file = written(taught, tmp_path / f"{kind}.gguf", kind)
    contract = bring(file, tmp_path).contract
    assert abs(contract.lineage.parity["perplexity"]) < imported.ROUNDING


def test_what_may_stay_stays_and_every_key_is_kept(taught: Tiny, tmp_path: Path) -> None:
    file = written(taught, tmp_path / "q4_1.gguf", "Q4_1")
    assert requantize(file, tmp_path / "same.gguf", ("Q4_1",)) == []
    assert not (tmp_path / "same.gguf").exists()
    assert requantize(file, tmp_path / "other.gguf", ("Q8_0",)) == ["Q4_1"]
    before, after = (open_reader(path) for path in (file, tmp_path / "other.gguf"))
    keys = [{n: f.contents() for n, f in r.fields.items() if not n.startswith("GGUF.")} for r in (before, after)]
    assert keys[1] == keys[0] | {"general.file_type": QUANTIZATIONS["Q8_0"]}
    weights = [read_gguf(path)[1] for path in (file, tmp_path / "other.gguf")]
    assert weights[0].keys() == weights[1].keys()
    for name, values in weights[0].items():
        assert abs(values - weights[1][name]).max() <= abs(values).max() / 127, name


def test_another_architecture_comes_in_without_a_reference(tiny: Tiny, tmp_path: Path) -> None:
    result = bring(making.write(tmp_path / "qwen.gguf", "qwen2"), tmp_path)
    assert result.contract.lineage.parity == {}
    assert result.contract.lineage.imported is not None
    assert result.contract.lineage.imported.kind == "GGUF, qwen2"
    opened(result.archive, tmp_path / "unpacked").check_example()


def test_the_defaults_of_its_makers_come_with_it(taught: Tiny, tmp_path: Path) -> None:
    def packed(result: Result) -> Defaults:
        archive.unpack(result.archive, tmp_path / result.contract.version)
        return read_defaults(tmp_path / result.contract.version / "assets" / "generation_config.json")

    reader = open_reader(taught.path)
    file = tmp_path / "own" / "tide.gguf"
    file.parent.mkdir()
    writer = writer_like(reader, file, "Q8_0")
    writer.add_float32("general.sampling.temp", 0.5)
    writer.add_int32("general.sampling.top_k", 20)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    finish(writer)
    assert packed(bring(file, tmp_path)) == Defaults(temperature=0.5, top_k=20)
    (file.parent / "generation_config.json").write_text('{"top_p": 0.9, "eos_token_id": 2}')
    assert packed(bring(file, tmp_path)) == Defaults(top_p=0.9)
    (file.parent / "generation_config.json").write_text('{"top_p": 9}')
    with pytest.raises(
        DataError, match=r"defaults that tide\.gguf comes with cannot be taken: generation_config\.json"
    ):
        bring(file, tmp_path)
    assert packed(bring(taught.path, tmp_path)) == NO_DEFAULTS


def test_a_second_file_does_not_replace_the_first_by_itself(taught: Tiny, tmp_path: Path) -> None:
    bring(taught.path, tmp_path)
    result = bring(taught.path, tmp_path)
    assert result.state == "challenger"
    assert "perplexities of two files cannot be compared" in result.why
    assert bring(taught.path, tmp_path, promote="always").state == "champion"


@pytest.mark.parametrize(
    ("architecture", "without", "message"),
    [
        ("llama", "tokenizer.chat_template", "lacks the key tokenizer.chat_template, by which conversations"),
        ("llama", "llama.context_length", "lacks the key llama.context_length"),
        ("llama", "tokenizer.ggml.tokens", "lacks the key tokenizer.ggml.tokens, the vocabulary"),
        ("mamba", "", "cannot be used on this machine: "),
    ],
)
def test_a_file_that_cannot_be_served_is_refused_in_a_sentence(
    tmp_path: Path, architecture: str, without: str, message: str
) -> None:
    file = making.write(tmp_path / "model.gguf", architecture, without)
    with pytest.raises(DataError, match=message):
        bring(file, tmp_path)
    assert not Registry(tmp_path / "store").models()


@pytest.mark.parametrize("length", [0, 3, 100, 5000])
def test_a_file_that_was_cut_off_is_refused(taught: Tiny, tmp_path: Path, length: int) -> None:
    (tmp_path / "cut.gguf").write_bytes(taught.path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"cut.gguf is no GGUF file"):
        bring(tmp_path / "cut.gguf", tmp_path)


def test_a_template_that_is_none_is_refused(taught: Tiny, tmp_path: Path) -> None:
    data = taught.path.read_bytes().replace(b"{% for message in messages %}", b"{% for message im messages %}")
    (tmp_path / "broken.gguf").write_bytes(data)
    with pytest.raises(DataError, match="its chat template cannot write a conversation"):
        bring(tmp_path / "broken.gguf", tmp_path)


def test_an_engine_that_computes_something_else_is_noticed(
    taught: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of queries and keys in the wrong order, as a converter might leave them."""
    wrong = tmp_path / "wrong.gguf"
    write_gguf(taught.path, taught.metadata, taught.weights, wrong, "Q8_0")
    served = engines.prepare

    def prepare(engine: Any, folder: Path) -> None:
        weights = {name: values[::-1].copy() if "attn_q" in name else values for name, values in taught.weights.items()}
        (folder / "model.gguf").unlink()
        write_gguf(taught.path, taught.metadata, weights, folder / "model.gguf", "Q8_0")
        served(engine, folder)

    monkeypatch.setattr(engines, "prepare", prepare)
    with pytest.raises(DataError, match="the engine reads it wrongly, and nothing is registered"):
        bring(wrong, tmp_path)


def test_the_command_says_what_came_in_and_refuses_what_a_language_model_has_not(taught: Tiny, tmp_path: Path) -> None:
    options = ["import", str(taught.path), "--name", "tide", "--store", str(tmp_path / "store")]
    refused = CliRunner().invoke(app, [*options, "--labels", "a,b", "--task", "tensors"])
    assert refused.exit_code == 1
    assert "--labels, --task: a language model has none" in refused.output
    told = CliRunner().invoke(app, options)
    assert told.exit_code == 0, told.output
    assert "perplexity " in told.output
    assert "champion (the first version)" in told.output
