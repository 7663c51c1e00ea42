from pathlib import Path

from serving.hosts.torchserve.grpc_management import GENERATED, SERVICE, closed_service, write_closed_service


def test_the_class_has_torchserves_name_and_inherits_what_refuses_every_call(tmp_path: Path) -> None:
    folder = write_closed_service(tmp_path / "classes")
    written = (folder / f"{SERVICE}.class").read_bytes()
    assert written == closed_service()
    assert written[:4] == bytes.fromhex("cafebabe")
    assert SERVICE.encode() in written
    assert GENERATED.encode() in written
    assert write_closed_service(folder) == folder  # again, at every start
