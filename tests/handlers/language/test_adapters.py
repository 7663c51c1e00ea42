"""The folder of an adapter as PEFT publishes it: what is read, and that what cannot be computed is refused."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers.language.decoders.adapters import (
    CONFIG,
    WEIGHTS,
    Adapter,
    Change,
    check_name,
    rank_of,
    read_adapter,
    read_adapters,
    write_adapter,
)
from serving.settings import ROOT

PEFT = (
    ("layers.0.self_attn.q_proj", 10.672778, 0.13151124),
    ("layers.0.mlp.down_proj", 11.410610, 0.20692432),
    ("layers.1.self_attn.v_proj", 8.568801, 0.46277642),
)
QUERY, DOWN = "layers.0.self_attn.q_proj", "layers.1.mlp.down_proj"


def adapter() -> Adapter:
    draw = np.random.default_rng(0)
    shapes = {QUERY: (8, 8), DOWN: (8, 12)}
    return {
        layer: Change(draw.normal(size=(2, inputs)).astype(np.float32), draw.normal(size=(outputs, 2)).astype("<f4"))
        for layer, (outputs, inputs) in shapes.items()
    }


def written(folder: Path, **config: Any) -> Path:
    """An adapter of rank 2 whose configuration says something else, too."""
    write_adapter(folder, adapter(), 2)
    content = json.loads((folder / CONFIG).read_text()) | config
    (folder / CONFIG).write_text(json.dumps(content))
    return folder


def rewrite(folder: Path, *changes: tuple[bytes, bytes]) -> Path:
    """Change bytes of the numbers' file."""
    content = (folder / WEIGHTS).read_bytes()
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    (folder / WEIGHTS).write_bytes(content)
    return folder


def check_equal(given: Adapter, expected: Adapter, factor: float = 1.0) -> None:
    assert given.keys() == expected.keys()
    for layer, change in given.items():
        assert np.array_equal(change.down, expected[layer].down)
        assert np.allclose(change.up, factor * expected[layer].up, rtol=1e-6)


def test_a_folder_that_peft_wrote_has_the_changes_that_peft_computes() -> None:
    """The folder is PEFT 0.21.2's: rank 2, alpha 6, rsLoRA, all linear layers of two."""
    given = read_adapter(ROOT / "tests/support/handlers/peft")
    assert len(given) == 14
    for layer, norm, entry in PEFT:  # of `get_delta_weight` there
        delta = given[layer].up @ given[layer].down
        assert np.linalg.norm(delta) == pytest.approx(norm, rel=1e-5)
        assert delta[1, 2] == pytest.approx(entry, rel=1e-5)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapters" / "poet", adapter(), 2)
    write_adapter(tmp_path / "adapters" / "pirate", adapter(), 2)
    adapters = read_adapters(tmp_path)
    assert list(adapters) == ["pirate", "poet"]
    check_equal(adapters["poet"], adapter())
    assert rank_of(adapters["poet"]) == 2


def test_an_archive_without_the_folder_has_none(tmp_path: Path) -> None:
    assert read_adapters(tmp_path) == {}


def test_the_package_of_the_format_reads_the_same(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    tensors = numpy.load_file(written(tmp_path) / WEIGHTS)
    assert np.array_equal(tensors[f"base_model.model.model.{QUERY}.lora_A.weight"], adapter()[QUERY].down)


@pytest.mark.parametrize(
    ("config", "factor"),
    [({"lora_alpha": 8}, 4), ({"lora_alpha": 0.5}, 0.25), ({"lora_alpha": 8, "use_rslora": True}, 8 / math.sqrt(2))],
)
def test_the_factor_is_alpha_by_the_rank_or_by_its_root(tmp_path: Path, config: dict[str, Any], factor: float) -> None:
    check_equal(read_adapter(written(tmp_path, **config)), adapter(), factor)


def test_numbers_in_16_bits_are_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    for kind in (torch.float16, torch.bfloat16):
        folder = written(tmp_path)
        tensors = {name: values.to(kind) for name, values in safetensors.load_file(folder / WEIGHTS).items()}
        safetensors.save_file(tensors, folder / WEIGHTS)
        expected = tensors[f"base_model.model.model.{DOWN}.lora_A.weight"].float().numpy()
        assert np.array_equal(read_adapter(folder)[DOWN].down, expected)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "LOHA"),
        ("use_dora", True),
        ("modules_to_save", ["lm_head"]),
        ("bias", "all"),
        ("lora_bias", True),
        ("fan_in_fan_out", True),
        ("rank_pattern", {"q_proj": 4}),
        ("alpha_pattern", {"q_proj": 4}),
        ("init_lora_weights", "pissa"),
        ("alora_invocation_tokens", [1, 2]),
        ("of_a_later_release", True),
        ("r", 0),
        ("r", None),
        ("r", True),
        ("lora_alpha", "16"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_its_name(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{value!r}".replace("[", r"\[")) as refusal:
        read_adapter(written(tmp_path, **{key: value}))
    assert key in str(refusal.value) or key == "peft_type"


def test_keys_that_say_nothing_pass(tmp_path: Path) -> None:
    silent: dict[str, Any] = {"use_dora": False, "modules_to_save": None, "rank_pattern": {}, "lora_dropout": 0.1}
    folder = written(tmp_path, **silent, base_model_name_or_path="a/b", init_lora_weights="gaussian")
    check_equal(read_adapter(folder), adapter())


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ([(b"q_proj.lora_A", b"q_proj.lora_C")], "changes .*lora_C.weight; only the layers q_proj"),
        ([(b"self_attn.q_proj", b"self_attn.q_norm")], "only the layers"),
        ([(b"lora_A", b"lora_B"), (b"[2,8]", b"[8,2]")], "no adapter of PEFT|has lora_B"),
        ([(b'"F32"', b'"I32"')], "is in I32; it must be in F32, F16, BF16"),
        ([(b"[0,64]", b"[0,63]")], "does not lie where the header"),
        ([(b"[2,8]", b"[2,9]")], "does not lie where the header"),
        ([(b"[2,8]", b"[4,4]")], r"lora_A \(4, 4\).*with r: 2 they are \(2, …\)"),
    ],
)
def test_numbers_that_are_no_changes_are_refused(
    tmp_path: Path, changes: list[tuple[bytes, bytes]], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        read_adapter(rewrite(written(tmp_path), *changes))


def test_what_is_not_finite_is_refused(tmp_path: Path) -> None:
    change = adapter()[QUERY]
    write_adapter(tmp_path, {QUERY: change._replace(up=np.full_like(change.up, np.nan))}, 2)
    with pytest.raises(ValueError, match=rf"numbers for {QUERY} that are not finite"):
        read_adapter(tmp_path)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("content", [None, b"", b"[1]", b"\xff" * 40, b"{"])
def test_a_damaged_or_missing_file_is_named_in_one_sentence(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = written(tmp_path) / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is no adapter of PEFT \(adapter_config.json and adapter_model.safetensors"):
        read_adapter(tmp_path)


@pytest.mark.parametrize("name", ["", "a:b", "a@1", "../x", "a/b", ".x", "predict", "a b", "x" * 65])
def test_a_name_that_no_request_could_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no adapter can be called"):
        check_name(name)
    check_name("pirate-2.b_c")
