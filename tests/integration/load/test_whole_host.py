"""The start of the direct host, as the bench measures it."""

from pathlib import Path

from loadtests.bench.tensors.whole_host import measure
from tests.integration.conftest import put


def test_a_whole_host_is_started_with_every_model_of_a_store_and_ended(tmp_path: Path) -> None:
    host = measure(put(tmp_path / "store", "linear"), starts=1)
    assert host.models == 1
    assert host.cold_start > 0
    assert host.memory > 10
