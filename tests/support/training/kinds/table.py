"""The kinds of models, by the names under which they are served; each row of the page of imports has some."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tests.support.training.kinds import estimators, networks, pictures, texts
from tests.support.training.kinds.made import Made
from training.data import install

MAKERS: Mapping[str, Callable[[Path], Made]] = {
    "strings": networks.strings,
    "outside": networks.outside,
    "program": networks.program,
    "script": networks.script,
    "weights": partial(networks.weights, suffix=".pt"),
    "safetensors": partial(networks.weights, suffix=".safetensors"),
    "halved": networks.halved,
    "waves": networks.waves,
    "mixed": estimators.mixed,
    "pickled": estimators.pickled,
    "ridge": estimators.ridge,
    "xgboost": estimators.xgboost,
    "lightgbm": estimators.lightgbm,
    "catboost": estimators.catboost,
    **{f"mlflow-{flavour}": partial(estimators.mlflow, flavour=flavour) for flavour in estimators.FLAVOURS},
    "mood": texts.mood,
    "vectors": texts.vectors,
    "names": texts.names,
    "pets": pictures.pets,
    "pixels": pictures.pixels,
    "smol": texts.smol,
}
# Packages by the extra that installs them, and the kinds that need them beside those of their row.
PACKAGES = {
    "import": ("skops", "skl2onnx"),
    "import-trees": ("xgboost", "lightgbm", "onnxmltools"),
    "import-catboost": ("catboost",),
    "import-huggingface": ("transformers", "tokenizers", "safetensors"),
    "chat": ("gguf", "tokenizers", "openvino_genai"),
}
NEEDS: Mapping[str, tuple[str, ...]] = {
    "safetensors": ("import-huggingface",),
    "mixed": ("import",),
    "pickled": ("import", "import-trees"),
    "ridge": ("import",),
    "xgboost": ("import-trees",),
    "lightgbm": ("import-trees",),
    "catboost": ("import-catboost",),
    **{f"mlflow-{flavour}": ("import",) for flavour in ("onnx", "sklearn", "pytorch")},  # the tests' writer needs it
    **{f"mlflow-{flavour}": ("import", "import-trees") for flavour in ("xgboost", "lightgbm")},
    "mlflow-catboost": ("import", "import-catboost"),
    **dict.fromkeys(("mood", "vectors", "names", "pets"), ("import-huggingface",)),
    "smol": ("chat",),
}


def lacking(kind: str) -> str:
    """Return why a kind cannot be made: a package is not installed; empty where it can."""
    for extra in NEEDS.get(kind, ()):
        for package in PACKAGES[extra]:
            if find_spec(package) is None:
                return f"{package} is not installed: {install(extra)}"
    return ""
