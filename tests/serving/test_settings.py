from pathlib import Path

import pytest

from serving.settings import RAY_PORTS, ROOT, Settings, on_free_ports


def test_without_variables_everything_listens_on_loopback() -> None:
    settings = Settings.from_environment({})
    assert (settings.bind_address, settings.private_address) == ("127.0.0.1", "127.0.0.1")
    assert settings.inference_url == "http://127.0.0.1:8080"
    assert settings.management_url == "http://127.0.0.1:8081"


def test_every_setting_is_read_from_its_variable() -> None:
    wanted = Settings(
        *("direct", "0.0.0.0", "10.0.0.1", 1, 2, 3, 4, 5, 6, 7, 8),
        grpc=True,
        grpc_port=9,
        ray_port=10,
        model_store=Path("/models"),
        store_url="s3://bucket/models",
        registry="database",
        public_key=Path("/keys/public.pem"),
        signing_key=Path("/keys/private.pem"),
        run_dir=Path("/run/marloop"),
        metrics_dir=Path("/dev/shm/workers"),
        metrics_host="torchserve",
        management_hosts="torchserve, gpu-1",
        management_socket=Path("/control/management.sock"),
        open=True,
        published_address="10.0.0.7",
        keys_file=Path("/run/secrets/keys.json"),
        board_dir=Path("/control/direct"),
        cors_origins="https://page.example",
        telemetry=False,
    )
    assert Settings.from_environment(wanted.to_environment()) == wanted
    assert len(wanted.to_environment()) == 30


def test_our_own_commands_manage_through_a_socket_in_the_temporary_folder_unless_another_is_named() -> None:
    assert Settings().management_address == f"unix:{Settings().temporary}/management.sock"
    named = Settings.from_environment({"MARLOOP_MANAGEMENT_SOCKET": "/control/management.sock"})
    assert named.management_address == "unix:/control/management.sock"


def test_names_of_this_machine_are_separated_by_commas_or_spaces() -> None:
    assert Settings(management_hosts="Torchserve,  gpu-1 gpu-2").hosts == {"torchserve", "gpu-1", "gpu-2"}


def test_an_empty_variable_counts_as_unset() -> None:
    empty = dict.fromkeys(Settings().to_environment(), "")
    assert Settings.from_environment(empty) == Settings()


def test_a_relative_path_starts_at_the_repository() -> None:
    settings = Settings.from_environment({"MARLOOP_MODEL_STORE": "elsewhere", "MARLOOP_RUN_DIR": "/run/marloop"})
    assert settings.model_store == ROOT / "elsewhere"
    assert settings.run_dir == Path("/run/marloop")


def test_a_url_as_the_model_store_is_a_shared_one_whose_copy_is_in_the_run_folder() -> None:
    names = {"MARLOOP_MODEL_STORE": "s3://bucket/models", "MARLOOP_RUN_DIR": "/run/marloop"}
    settings = Settings.from_environment(names)
    assert (settings.store_url, settings.model_store) == ("s3://bucket/models", Path("/run/marloop/model_store"))
    assert Settings.from_environment(settings.to_environment()) == settings


@pytest.mark.parametrize("url", ["s3://user:password@bucket", "s3:// bucket", "s3://bucket?x", "://bucket"])
def test_what_is_no_url_of_a_store_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="MARLOOP_STORE_URL is .*; it must be a URL without user and password"):
        Settings.from_environment({"MARLOOP_MODEL_STORE": url})


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "8080.0", " 8080", "²"])
def test_what_is_no_port_is_refused_with_the_variable(text: str) -> None:
    with pytest.raises(ValueError, match=rf"MARLOOP_METRICS_PORT is '{text}'; it must be a port from 1 to 65535"):
        Settings.from_environment({"MARLOOP_METRICS_PORT": text})


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_a_server_on_all_addresses_is_reached_on_loopback(address: str) -> None:
    settings = Settings(bind_address=address, private_address=address)
    assert settings.inference_url == "http://127.0.0.1:8080"
    assert settings.management_url == "http://127.0.0.1:8081"


def test_each_run_folder_has_a_temporary_folder_with_a_short_path(tmp_path: Path) -> None:
    first, second = Settings(run_dir=tmp_path / "a"), Settings(run_dir=tmp_path / "b")
    assert first.temporary != second.temporary
    assert first.temporary == Settings(run_dir=tmp_path / "b" / ".." / "a").temporary
    # A Unix socket's path has at most 107 bytes, and TorchServe adds a name.
    deep = Settings(run_dir=tmp_path / ("long" * 50))
    assert len(deep.temporary.name) == len(first.temporary.name) < 30


def test_a_copy_on_free_ports_listens_on_none_twice(tmp_path: Path) -> None:
    settings = on_free_ports(tmp_path / "store", tmp_path / "run")
    names = [name for name in Settings.__struct_fields__ if name.endswith("_port") and name != "ray_port"]
    ports = [getattr(settings, name) for name in names]
    ports += range(settings.ray_port, settings.ray_port + RAY_PORTS)
    assert len(set(ports)) == len(names) + RAY_PORTS
