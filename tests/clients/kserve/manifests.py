"""What of manifests KServe's own models do not know, or miss: ``manifests.py OBJECTS.json``, a list an object."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kserve
import kserve.models
import kubernetes.client

PREFIXES = {"serving.kserve.io/v1alpha1": "V1alpha1", "serving.kserve.io/v1beta1": "V1beta1"}
PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object}


def faults_of(value: Any, kind: str, place: str) -> Iterator[str]:
    """Yield the faults of a value by the name of its type in a model's ``openapi_types``."""
    if kind in PLAIN:
        if not isinstance(value, PLAIN[kind]):
            yield f"{place} is {value!r}, not {kind}"
    elif inner := re.fullmatch(r"[Ll]ist\[(.*)\]", kind):
        for i, each in enumerate(value):
            yield from faults_of(each, inner[1], f"{place}[{i}]")
    elif inner := re.fullmatch(r"[Dd]ict[\(\[]str, (.*)[\)\]]", kind):
        for key, each in value.items():
            yield from faults_of(each, inner[1], f"{place}.{key}")
    else:
        yield from _faults_of_object(value, kind, place)


def _faults_of_object(value: Any, kind: str, place: str) -> Iterator[str]:
    model = next((getattr(m, kind) for m in (kserve.models, kserve, kubernetes.client) if hasattr(m, kind)), None)
    if model is None or not hasattr(model, "attribute_map"):
        if kind not in ("ResourceQuantity", "IntOrString"):
            yield f"{place}: nobody knows {kind}"
        return
    names = {key: attribute for attribute, key in model.attribute_map.items()}
    for key, each in value.items():
        if key in names:
            yield from faults_of(each, model.openapi_types[names[key]], f"{place}.{key}")
        else:
            yield f"{place}.{key} is not known"
    try:
        model(**{names[key]: each for key, each in value.items() if key in names})
    except ValueError as error:
        yield f"{place}: {error}"


if __name__ == "__main__":
    objects = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    faults = [[*faults_of(each, PREFIXES[each["apiVersion"]] + each["kind"], each["kind"])] for each in objects]
    print(json.dumps(faults))
