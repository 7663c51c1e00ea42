"""A file's inputs of any length: padded where the contract's file says by what, if no answer changes by it."""

from pathlib import Path
from typing import Any

import pytest

from serving.registry import Registry
from tests.support.training import graphs
from tests.training.bring.test_onnx import Imported
from training.bring import sources
from training.bring.draft import Draft, ImportOptions, draft
from training.bring.graph import BringError
from training.bring.importing import bring

BOTH = "inputs: {input_ids: {pad: 0}, attention_mask: {pad: 0}}"
LONGEST = """(float[N,T] x) => (float[N] y) <int64[1] one = {1}> { y = ReduceMean <keepdims = 0> (x, one) }"""


def drafted(text: str, folder: Path, wishes: str) -> Draft:
    (folder / "contract.yaml").write_text(wishes)
    file = graphs.save(text, folder / "model.onnx")
    return draft(sources.read(file), ImportOptions(name="tokens", contract=folder / "contract.yaml"))


def request(*ids: int) -> dict[str, Any]:
    return {"input_ids": ids, "attention_mask": [1.0] * len(ids)}


def test_padded_rows_share_a_batch_and_answers_are_cut(tmp_path: Path) -> None:
    model = Imported(bring(drafted(graphs.HEADS, tmp_path, BOTH), Registry(tmp_path / "store")), tmp_path / "unpacked")
    assert [spec.pad for spec in model.contract.inputs] == [0, 0]
    assert model.post(request(1, 2, 3), request(4)) == [
        (200, {"prediction": {"total": 6.0, "masked_1": [1.0, 2.0, 3.0]}}),
        (200, {"prediction": {"total": 4.0, "masked_1": [4.0]}}),
    ]


@pytest.mark.parametrize(
    ("text", "wishes", "why"),
    [
        (graphs.HEADS, "inputs: {input_ids: {pad: 0}}", "input 'attention_mask' shares an axis with a padded one"),
        (graphs.HEADS, "inputs: {input_ids: {pad: 0.5}}", "a pad needs sizes that vary, and a number of INT64"),
        (LONGEST, "inputs: {x: {pad: 0}}", "y of a padded row differs by .*: the graph does not leave the padding out"),
    ],
)
def test_a_pad_that_changes_an_answer_is_refused(text: str, wishes: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(BringError, match=why):
        bring(drafted(text, tmp_path, wishes), Registry(tmp_path / "store"))
    assert not list((tmp_path / "store").glob("*.mar"))
