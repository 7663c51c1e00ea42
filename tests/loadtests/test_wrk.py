from pathlib import Path

import pytest

from loadtests import wrk
from loadtests.bench import environments
from loadtests.bench.tensors.measurement import answers
from loadtests.bench.tensors.workloads import JSON, Exchange, read_prediction
from serving.ports import free_ports
from serving.processes import running
from tests.support.loadtests.peers import command

PRINTED = """Running 1s test @ http://127.0.0.1:1/predict
Requests/sec:  100.00
measured: {"requests": 1000, "seconds": 2.0, "refused": 100, "lost": 3, "p50": 1.5, "p90": 2, "p99": 4, "worst": 9}
"""


def test_only_good_answers_count_and_all_others_are_errors() -> None:
    load = wrk.parse(PRINTED)
    assert load.per_second == 450
    assert load.errors == 103
    assert (load.p50, load.p99) == (1.5, 4)


def test_an_output_without_a_measurement_is_refused_with_its_end() -> None:
    with pytest.raises(wrk.WrkError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1")


def test_bodies_of_any_bytes_survive_in_the_script() -> None:
    script = wrk.script("POST", {"Content-Type": "image/png"}, [b'"\\\n\x00\xff1', b"plain"])
    assert '"\\034\\092\\010\\000\\2551"' in script
    assert '"plain"' in script
    assert '["Content-Type"] = "image/png"' in script


def test_a_missing_wrk_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(wrk.WrkError, match="apt-get install wrk"):
        wrk.find()


@pytest.fixture
def installed() -> None:
    try:
        wrk.find()
    except wrk.WrkError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("installed")
def test_wrk_sends_every_body_in_turn_and_counts_what_is_refused(tmp_path: Path) -> None:
    exchange = Exchange("/predict", JSON, [b'{"x": 1}', b"bad"], read_prediction)
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with running(command(port, 2), environments.quiet(), tmp_path / "log") as server:
        server.wait_until(lambda: answers(url, exchange))
        script = tmp_path / "load.lua"
        script.write_text(wrk.script("POST", exchange.headers, exchange.bodies))
        load = wrk.run(url + exchange.path, script, clients=4, seconds=1)
    assert load.requests > 20
    assert load.refused == pytest.approx(load.requests / 2, abs=8)
    assert load.lost == 0
