"""A folder of sentence-transformers becomes an archive that answers as transformers and its own steps do."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.training import huggingface
from tests.support.training.huggingface import POSITIONS, save, transformers
from tests.training.bring.test_huggingface import Evil, Served, cut, without
from training.bring import sources
from training.bring.graph import BringError
from training.bring.sources import Reading

MEAN = {"pooling_mode_mean_tokens": True}
TEXTS = ["a fine film", "😀 not bad [SEP]", "film " * 200, "שלום"]
# As sentence-transformers computes it: the mean over all tokens, the marks of start and end among them.
FORMS: dict[str, tuple[dict[str, Any], Any]] = {
    "flags": ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, lambda x: x.mean(0)),
    "name": ({"pooling_mode": "cls"}, lambda x: x[0]),
    "two": (
        {"pooling_mode_max_tokens": True, "pooling_mode_mean_sqrt_len_tokens": True},
        lambda x: torch.cat([x.amax(0), x.sum(0) / len(x) ** 0.5]),
    ),
}


def encoded(folder: Path, text: str, most: int, auto: str = "AutoModel") -> torch.Tensor:
    """The vectors of a text's tokens by transformers alone."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    model = getattr(transformers, auto).from_pretrained(folder).eval()
    with torch.inference_mode():
        vectors = model(**tokenizer(text, truncation=True, max_length=most, return_tensors="pt")).last_hidden_state
    assert isinstance(vectors, torch.Tensor)
    return vectors[0]


@pytest.mark.parametrize(("kind", "form"), [("Bert", "flags"), ("MPNet", "name"), ("DistilBert", "two")])
def test_a_folder_of_sentence_transformers_answers_its_vectors(tmp_path: Path, kind: str, form: str) -> None:
    modes, pooled = FORMS[form]
    folder = huggingface.save_sentences(tmp_path / "model", kind, modes, normalize=form != "two", most=32)
    served = Served(folder, tmp_path)
    assert (served.contract.task, [spec.name for spec in served.contract.outputs]) == ("tensors", ["embedding"])
    assert served.contract.inputs[0].description == "what is over 32 tokens is cut off"
    for text, vector in zip(TEXTS, served.scores(*TEXTS), strict=True):
        wanted = pooled(encoded(folder, text, 32))
        wanted = wanted / wanted.norm() if form != "two" else wanted
        assert vector == pytest.approx(wanted.tolist(), abs=1e-5, rel=1e-4)


TANH, IDENTITY = "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"


def layer(before: int, after: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(before + after)
    return nn.Linear(before, after, bias)


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("Bert", [(layer(32, 32), TANH)]),  # as LaBSE
        ("DistilBert", [(layer(32, 16), TANH), (layer(16, 8, bias=False), IDENTITY)]),
        ("T5", [(layer(32, 24, bias=False), IDENTITY)]),  # as sentence-t5
    ],
    ids=["Bert", "two layers", "T5"],
)
def test_dense_layers_answer_as_torch_computes_them(
    tmp_path: Path, kind: str, layers: list[tuple[nn.Linear, str]]
) -> None:
    folder = huggingface.save_sentences(tmp_path / "model", kind, MEAN, normalize=True, most=32, layers=layers)
    served = Served(folder, tmp_path)
    assert served.contract.lineage.imported is not None
    assert served.contract.lineage.imported.kind.endswith(
        f", dense to {layers[-1][0].out_features} ({layers[-1][1].rpartition('.')[2]}), normalized"
    )
    auto = "AutoModelForTextEncoding" if kind == "T5" else "AutoModel"
    for text, vector in zip(TEXTS, served.scores(*TEXTS), strict=True):
        wanted = encoded(folder, text, 32, auto).mean(0)
        with torch.inference_mode():
            for linear, activation in layers:
                wanted = linear(wanted).tanh() if activation == TANH else linear(wanted)
        assert vector == pytest.approx((wanted / wanted.norm()).tolist(), abs=1e-5, rel=1e-4)


def test_a_model_in_a_folder_of_its_own_has_the_given_folders_name_and_the_hash_of_all(tmp_path: Path) -> None:
    layers = [(layer(32, 8), TANH)]
    folder = huggingface.save_sentences(tmp_path / "model", "Bert", MEAN, normalize=False, most=32, layers=layers)
    (folder / "0_Transformer").mkdir()
    for file in [file for file in folder.iterdir() if file.is_file() and file.name != "modules.json"]:
        file.rename(folder / "0_Transformer" / file.name)
    modules = json.loads((folder / "modules.json").read_text())
    rewritten(folder, "modules.json", json.dumps([modules[0] | {"path": "0_Transformer"}, *modules[1:]]))
    first = sources.read(folder)
    assert first.file == "model"
    torch.save({f"linear.{name}": 2 * value for name, value in layers[0][0].state_dict().items()},
               folder / "2_Dense" / "pytorch_model.bin")  # fmt: skip
    assert sources.read(folder).sha256 != first.sha256


def changed(folder: Path, name: str, **settings: Any) -> None:
    rewritten(folder, name, json.dumps(json.loads((folder / name).read_text()) | settings))


def retyped(folder: Path, place: int, **settings: str) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[place] |= settings
    rewritten(folder, "modules.json", json.dumps(modules))


DENSE = "2_Dense/config.json"


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda folder: retyped(folder, 2, type="sentence_transformers.models.LSTM"), "any order, .*, LSTM cannot"),
        (lambda folder: retyped(folder, 2, type="mine.Dense"), "code of its mine.Dense is none of .* is never run"),
        (lambda folder: retyped(folder, 2, path="../2_Dense"), "names '../2_Dense', which lies outside of the folder"),
        (lambda folder: changed(folder, DENSE, activation_function="torch.nn.modules.activation.GLU"), "'torch.*GLU'"),
        (lambda folder: changed(folder, DENSE, activation_function="mine.Tanh"), "the activation 'mine.Tanh' cannot"),
        (lambda folder: changed(folder, DENSE, in_features=16), r"pytorch_model.bin holds .*; its configuration says"),
        (lambda folder: changed(folder, DENSE, bias=False), "'linear.bias': .*; its configuration says"),
        (lambda folder: changed(folder, DENSE, module_input_name="token_embeddings"), "computes token_embeddings"),
        (lambda folder: cut(folder, DENSE), "config.json is damaged"),
        (lambda folder: cut(folder, "2_Dense/pytorch_model.bin"), "pytorch_model.bin holds no weights alone"),
        (lambda folder: without(folder, "2_Dense/pytorch_model.bin"), "2_Dense has no weights"),
        (lambda folder: torch.save([1], folder / "2_Dense/pytorch_model.bin"), "no weights alone: it holds a list"),
        (lambda folder: torch.save({"w": Evil()}, folder / "2_Dense/pytorch_model.bin"), "holds no weights alone"),
        (lambda folder: retyped(folder, 3, path="2_Dense", type="sentence_transformers.models.Dense"),
         "2_Dense takes vectors of 32 numbers, and gets 16"),
    ],
)  # fmt: skip
def test_a_damaged_dense_layer_gets_a_sentence(
    dense: Path, tmp_path: Path, damage: Any, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(dense, folder)
    damage(folder)
    with pytest.raises(BringError, match=fault) as error:
        sources.read(folder)
    assert "\n" not in str(error.value)
    assert "this must not run" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, layers = tmp_path_factory.mktemp("dense") / "model", [(layer(32, 16), TANH)]
    return huggingface.save_sentences(folder, "Bert", MEAN, normalize=True, most=32, layers=layers)


def test_a_bare_encoder_needs_its_pooling_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "Roberta", "Model")
    with pytest.raises(BringError, match="holds RobertaModel; .* with --pooling mean, cls or max"):
        sources.read(folder)
    with pytest.raises(BringError, match="the pooling 'sum' cannot be imported; cls, mean, max, mean_sqrt_len can"):
        sources.read(folder, Reading(pooling="sum"))
    served = Served(folder, tmp_path, Reading(pooling="mean"))
    wanted = encoded(folder, "not bad", POSITIONS).mean(0)
    assert served.scores("not bad") == [pytest.approx(wanted.tolist(), abs=1e-5, rel=1e-4)]


def rewritten(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda folder: rewritten(folder, "modules.json", "{"), "modules.json is damaged"),
        (lambda folder: rewritten(folder, "modules.json", '[{"path": "", "type": "a.Transformer"}]'), "has the steps"),
        (lambda folder: without(folder, "1_Pooling/config.json"), "config.json cannot be read: No such file"),
        (lambda folder: rewritten(folder, "1_Pooling/config.json", "{}"), "the pooling 'none' cannot be imported"),
        (
            lambda folder: rewritten(folder, "1_Pooling/config.json", '{"pooling_mode_lasttoken": true}'),
            "the pooling 'lasttoken' cannot be imported",
        ),
        (
            lambda folder: rewritten(folder, "sentence_bert_config.json", '{"do_lower_case": true}'),
            "do_lower_case is not supported",
        ),
    ],
)
def test_a_damaged_folder_of_sentence_transformers_gets_a_sentence(tmp_path: Path, damage: Any, fault: str) -> None:
    folder = huggingface.save_sentences(tmp_path / "model", "Bert", MEAN, normalize=True, most=32)
    damage(folder)
    with pytest.raises(BringError, match=fault):
        sources.read(folder)


def test_prompts_are_told(tmp_path: Path) -> None:
    folder = huggingface.save_sentences(tmp_path / "model", "Bert", MEAN, normalize=True, most=32)
    rewritten(folder, "config_sentence_transformers.json", '{"prompts": {"query": "query: ", "document": ""}}')
    assert sources.read(folder).notes == ("a prompt is the client's to put before a text: query 'query: '",)
