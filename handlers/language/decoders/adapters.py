"""Low-rank adapters (LoRA, Hu et al. 2021) in the form that PEFT publishes: a folder of a JSON and a safetensors file.

What cannot be computed as it was learned is refused: every key of the configuration is either one of those that are
read, one that says nothing of the arithmetic, or says "nothing".
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from handlers.contract import Array

FOLDER = "adapters"  # of an archive; it has a folder for each
CONFIG, WEIGHTS = FILES = ("adapter_config.json", "adapter_model.safetensors")
ATTENTION, FEED_FORWARD = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = ("predict", "explain")  # `/v1/models/NAME:predict` is a route
_PREFIX = "base_model.model.model."
_TENSOR = re.compile(
    re.escape(_PREFIX)
    + rf"(layers\.\d+\.(?:self_attn\.(?:{'|'.join(ATTENTION)})|mlp\.(?:{'|'.join(FEED_FORWARD)})))\.lora_([AB])\.weight"
)
_READ = frozenset({"peft_type", "r", "lora_alpha", "use_rslora", "init_lora_weights"})
# Of the training, of the base or of the choice of layers, which the tensors name themselves.
_SILENT = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "target_modules",
        "task_type",
    }
)
_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # ways to begin that leave the base as it is
_NOTHING: tuple[Any, ...] = (None, False, 0, "", "none", [], {})
# BF16 is the upper half of a float32.
_TYPES: Mapping[str, Any] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


class Change(NamedTuple):
    """The change of a layer.

    Attributes:
        down: float32 ``(rank, inputs)``.
        up: float32 ``(outputs, rank)``, scaled.
    """

    down: Array
    up: Array


Adapter = Mapping[str, Change]  # by layer, such as ``layers.0.self_attn.q_proj``


class _Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def check_name(name: str) -> None:
    """Check that an adapter may be called so.

    Raises:
        ValueError: it may not; says why.
    """
    if not _NAME.fullmatch(name) or name in _RESERVED:
        rule = "letters, digits, '.', '_' and '-', at most 64, the first a letter or a digit"
        raise ValueError(f"no adapter can be called {name!r}: {rule}, and not {' or '.join(_RESERVED)}")


def read_adapters(directory: Path) -> dict[str, Adapter]:
    """Return the adapters of an unpacked archive, in the order of their names.

    Raises:
        ValueError: one cannot be served; says why.
    """
    return {folder.name: read_adapter(folder) for folder in sorted((directory / FOLDER).glob("*"))}


def read_adapter(folder: Path) -> Adapter:
    """Read a folder that PEFT wrote.

    Raises:
        ValueError: it is none, or it asks for what is not served here; says what.
    """
    try:
        config = msgspec.json.decode((folder / CONFIG).read_bytes(), type=dict[str, Any])
        tensors = _read_tensors((folder / WEIGHTS).read_bytes())
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise ValueError(f"{folder} is no adapter of PEFT ({' and '.join(FILES)}): {error}") from error
    scale = _scale(folder, config)
    parts: dict[str, dict[str, Array]] = {}
    for name, values in tensors.items():
        place = _TENSOR.fullmatch(name)
        if not place:
            served = ", ".join((*ATTENTION, *FEED_FORWARD))
            raise ValueError(f"{folder} changes {name}; only the layers {served} can be changed")
        parts.setdefault(place[1], {})[place[2]] = values
    if not parts:
        raise ValueError(f"{folder} changes no layer")
    return {layer: _change(folder, layer, parts[layer], config["r"], scale) for layer in sorted(parts)}


def write_adapter(folder: Path, adapter: Adapter, rank: int) -> None:
    """Write an adapter as PEFT does, whose changes all have this rank."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "bias": "none"}
    config["target_modules"] = sorted({layer.rpartition(".")[2] for layer in adapter})
    (folder / CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(config)))
    tensors = {
        f"{_PREFIX}{layer}.lora_{letter}.weight": np.ascontiguousarray(values, "<f4")
        for layer, change in adapter.items()
        for letter, values in (("A", change.down), ("B", change.up))
    }
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, values in tensors.items():
        header[name] = _Tensor("F32", list(values.shape), (start, start := start + values.nbytes))
    head = msgspec.json.encode(header)
    head += b" " * (-len(head) % 8)
    parts = (values.tobytes() for values in tensors.values())
    (folder / WEIGHTS).write_bytes(len(head).to_bytes(8, "little") + head + b"".join(parts))


def rank_of(adapter: Adapter) -> int:
    """Return the rank of an adapter's widest change."""
    return max(len(change.down) for change in adapter.values())


def _scale(folder: Path, config: Mapping[str, Any]) -> float:
    """Return the factor of the changes.

    Raises:
        ValueError: the configuration asks for more than plain LoRA.
    """
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{folder} is of the kind {config.get('peft_type')!r}; only LORA can be served")
    others = {key: value for key, value in config.items() if key not in _READ | _SILENT and value not in _NOTHING}
    if config.get("init_lora_weights", True) not in _STARTS:
        others["init_lora_weights"] = config["init_lora_weights"]
    if others:
        key, value = next(iter(others.items()))
        raise ValueError(f"{folder} has {key}: {value!r}, which cannot be served: only plain LoRA can")
    rank: Any = config.get("r")
    alpha: Any = config.get("lora_alpha")
    if not (type(rank) is int and rank > 0 and type(alpha) in (int, float)):
        raise ValueError(f"{folder} has r: {rank!r} and lora_alpha: {alpha!r}; both must be numbers, r at least 1")
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _change(folder: Path, layer: str, parts: Mapping[str, Array], rank: int, scale: float) -> Change:
    down, up = parts.get("A"), parts.get("B")
    if down is None or up is None or down.ndim != 2 or up.ndim != 2 or not down.shape[0] == up.shape[1] == rank:
        shapes = ", ".join(f"lora_{letter} {values.shape}" for letter, values in sorted(parts.items()))
        raise ValueError(f"{folder} has {shapes} for {layer}; with r: {rank} they are ({rank}, …) and (…, {rank})")
    if not (np.isfinite(down).all() and np.isfinite(up).all()):
        raise ValueError(f"{folder} has numbers for {layer} that are not finite")
    return Change(down, up * np.float32(scale))


def _read_tensors(content: bytes) -> dict[str, Array]:
    """Read a file of the safetensors format: the header's size in 8 bytes, a header in JSON, the numbers."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 + size:
        raise ValueError(f"{WEIGHTS} ends inside its header")
    header = msgspec.json.decode(content[8 : 8 + size], type=dict[str, Any])
    header.pop("__metadata__", None)
    tensors = msgspec.convert(header, dict[str, _Tensor])
    return {name: _numbers(name, tensor, memoryview(content)[8 + size :]) for name, tensor in tensors.items()}


def _numbers(name: str, tensor: _Tensor, data: memoryview) -> Array:
    if tensor.dtype not in _TYPES:
        raise ValueError(f"{name} is in {tensor.dtype}; it must be in {', '.join(_TYPES)}")
    kind, (start, end) = _TYPES[tensor.dtype], tensor.data_offsets
    if not 0 <= start <= end <= len(data) or end - start != math.prod(tensor.shape) * kind.itemsize:
        raise ValueError(f"{name} does not lie where the header of {WEIGHTS} says")
    values = np.frombuffer(data[start:end], kind).reshape(tensor.shape)
    wide: Array = (values.astype(np.uint32) << 16).view(np.float32) if tensor.dtype == "BF16" else values
    return wide.astype(np.float32)


def layer_names(layers: int) -> Iterable[str]:
    """Yield the layers that an adapter may change, in the order in which a network computes them."""
    for number in range(layers):
        yield from (f"layers.{number}.self_attn.{part}" for part in ATTENTION)
        yield from (f"layers.{number}.mlp.{part}" for part in FEED_FORWARD)
