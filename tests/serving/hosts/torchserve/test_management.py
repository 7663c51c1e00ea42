import httpx
import pytest

from serving.hosts.torchserve.management import Management, ManagementError
from tests.support.serving.torchserve import URL, FakeTorchServe


def answering(response: httpx.Response) -> Management:
    return Management(URL, httpx.Client(transport=httpx.MockTransport(lambda request: response)))


def test_versions_lists_every_model_with_its_default_version_first() -> None:
    torchserve = FakeTorchServe({"linear": ["1.1", "1.0", "1.2"], "flights": ["1.0"]})
    assert torchserve.management.versions() == {"linear": ["1.1", "1.0", "1.2"], "flights": ["1.0"]}
    assert torchserve.changes == []


def test_a_server_without_models_has_no_versions() -> None:
    assert FakeTorchServe({}).management.versions() == {}


def test_register_loads_an_archive_and_waits_for_its_workers() -> None:
    torchserve = FakeTorchServe({"linear": ["1.0"]})
    torchserve.management.register("linear-1.1.mar", "linear", "1.1")
    assert torchserve.versions == {"linear": ["1.0", "1.1"]}
    # TorchServe does not wait for them, which would answer nobody meanwhile.
    assert torchserve.registrations == [{"url": "linear-1.1.mar", "model_name": "linear", "synchronous": "false"}]


def test_a_worker_that_ends_while_it_loads_is_told_at_once() -> None:
    torchserve = FakeTorchServe({"linear": ["1.0"]}, broken=["linear-1.1.mar"])
    with pytest.raises(ManagementError, match=r"workers do not start: .* why linear-1\.1\.mar does not load"):
        torchserve.management.register("linear-1.1.mar", "linear", "1.1")


def test_set_default_changes_which_version_answers() -> None:
    torchserve = FakeTorchServe({"linear": ["1.0", "1.1"]})
    torchserve.management.set_default("linear", "1.1")
    assert torchserve.versions == {"linear": ["1.1", "1.0"]}


def test_unregister_removes_one_version() -> None:
    torchserve = FakeTorchServe({"linear": ["1.1", "1.0"]})
    torchserve.management.unregister("linear", "1.0")
    assert torchserve.versions == {"linear": ["1.1"]}


def test_describe_gives_what_torchserve_says_of_a_version() -> None:
    described = FakeTorchServe({"linear": ["1.0"]}).management.describe("linear", "1.0")
    worker = {"id": "9000", "status": "READY", "pid": 100}
    assert described["modelVersion"] == "1.0"
    assert described["workers"] == [worker]


def test_a_version_is_ready_once_its_workers_are() -> None:
    management = FakeTorchServe({"linear": ["1.0", "1.1"]}, loading=[("linear", "1.1")]).management
    assert management.is_ready("linear", "1.0")
    assert not management.is_ready("linear", "1.1")


def test_a_refusal_is_reported_in_torchserves_words() -> None:
    management = FakeTorchServe({"linear": ["1.1", "1.0"]}).management
    with pytest.raises(ManagementError, match="^DELETE /models/linear/1.1: 403 Cannot remove default version for lin"):
        management.unregister("linear", "1.1")
    with pytest.raises(ManagementError, match="^POST /models: 400 Given URL ../evil.mar does not match$"):
        management.register("../evil.mar", "evil")


def test_an_error_without_a_message_is_reported_whole() -> None:
    with pytest.raises(ManagementError, match="507 {'code': 507}"):
        answering(httpx.Response(507, json={"code": 507})).register("linear-1.0.mar", "linear")


def test_an_answer_that_is_no_json_is_an_error_that_names_the_address() -> None:
    with pytest.raises(ManagementError, match=f"^GET {URL}/models: "):
        answering(httpx.Response(200, text="<html>a proxy</html>")).versions()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("Connection refused"), "Connection refused"),
        (httpx.ReadTimeout(""), "ReadTimeout"),  # without words of its own
    ],
)
def test_a_server_that_cannot_be_reached_is_named(error: httpx.HTTPError, words: str) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    management = Management(URL, httpx.Client(transport=httpx.MockTransport(fail)))
    with pytest.raises(ManagementError, match=f"^GET {URL}/models: {words}$"):
        management.versions()
