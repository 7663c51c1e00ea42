"""Archives that must be signed: nothing else is verified, whoever can write the store and its registry."""

import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.__main__ import app
from serving.registry import ArchiveError, Registry, file_sha256
from serving.store.shared.archives import signature_of
from serving.store.shared.mirror import Mirror
from serving.store.trust import Trust
from tests.serving.store.conftest import SharedStore
from tests.support.serving.signing import new_key
from tests.support.serving.stores import add, alter

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("model_signing") is None, reason="the package model-signing is not installed"
)


@pytest.fixture
def keys(tmp_path: Path) -> Trust:
    return new_key(tmp_path, "ours")


@pytest.fixture
def signed(registry: Registry, keys: Trust) -> Registry:
    """A registry that signs what is registered, and asks for it."""
    own = Registry(registry.store, trust=keys)
    add(own)
    return own


def entry(registry: Registry, name: str = "doubling") -> Path:
    return registry.verify(registry.champion(name).version)


@pytest.mark.parametrize("curve", ["SECP256R1", "SECP384R1", "SECP521R1"])
def test_what_is_registered_with_a_signing_key_is_verified_with_its_public_one(
    registry: Registry, tmp_path: Path, curve: str
) -> None:
    own = Registry(registry.store, trust=new_key(tmp_path, "ours", curve))
    path = add(own)
    assert entry(own) == path
    assert signature_of(path).is_file()


def test_an_archive_without_a_signature_is_refused_and_others_are_not(registry: Registry, keys: Trust) -> None:
    add(registry, "line")
    own = Registry(registry.store, trust=keys)
    add(own, "doubling")
    with pytest.raises(ArchiveError, match="line-1.0.mar is not signed, and .*ours.pub is asked for: `marloop sign`"):
        entry(own, "line")
    entry(own, "doubling")


def test_an_altered_archive_is_refused_although_the_registry_has_its_new_hash(signed: Registry) -> None:
    path = entry(signed)
    alter(path)
    with Registry(signed.store).change() as models:  # whoever alters the archive may alter the registry, too
        models["doubling"]["1.0"].sha256 = file_sha256(path)
    Registry(signed.store).verify(signed.champion("doubling").version)  # without the key nothing is noticed
    with pytest.raises(ArchiveError, match="is not what was signed for .*ours.pub"):
        entry(signed)
    with pytest.raises(ArchiveError, match="is not what was signed for"):
        signed.promote("doubling", "1.0")


def test_another_key_s_signature_is_refused(signed: Registry, tmp_path: Path) -> None:
    new_key(tmp_path, "theirs").sign(entry(signed))
    with pytest.raises(ArchiveError, match="is not what was signed for .*ours.pub"):
        entry(signed)


def test_another_archive_s_signature_is_refused(signed: Registry, tmp_path: Path) -> None:
    other = add(signed, "line")
    signature_of(other).replace(signature_of(entry(signed)))
    with pytest.raises(ArchiveError, match="is not what was signed for"):
        entry(signed)


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 10_000, b"\x00\xff", b'{"dsseEnvelope": 3}'])
def test_a_damaged_signature_is_refused(signed: Registry, content: bytes) -> None:
    signature_of(entry(signed)).write_bytes(content)
    with pytest.raises(ArchiveError, match="is not what was signed for"):
        entry(signed)


@pytest.mark.parametrize("content", [None, b"", b"no key"], ids=["missing", "empty", "text"])
def test_a_key_that_cannot_be_used_is_named_and_nothing_is_trusted(
    signed: Registry, keys: Trust, content: bytes | None
) -> None:
    assert keys.public_key is not None
    keys.public_key.unlink()
    if content is not None:
        keys.public_key.write_bytes(content)
    with pytest.raises(ArchiveError, match="ours.pub is no public key that can be used"):
        entry(signed)


def test_a_signing_key_that_cannot_be_used_registers_nothing(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no key")
    own = Registry(registry.store, trust=Trust(signing_key=tmp_path / "bad.pem"))
    with pytest.raises(ArchiveError, match="bad.pem is no private key that can be used"):
        add(own)
    assert own.models() == {}


def test_signatures_go_with_their_archives_through_a_shared_store(shared: SharedStore, keys: Trust) -> None:
    trainer = shared.registry("trainer")
    add(trainer)
    host = Registry(shared.settings("host").model_store, shared.registry("host").origin, Trust(keys.public_key))
    with pytest.raises(ArchiveError, match="is not signed"):
        entry(host)
    trainer.files.sign(trainer.champion("doubling").version, keys)
    Mirror(host).synchronise()
    entry(Registry(host.store, trust=Trust(keys.public_key)))
    new_key(shared.folder, "theirs").sign(host.store / "doubling-1.0.mar")  # altered on this machine alone
    entry(host)


def test_the_commands_sign_and_verify(
    registry: Registry, keys: Trust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry, "doubling")
    add(registry, "line")
    monkeypatch.setenv("MARLOOP_MODEL_STORE", str(registry.store))
    monkeypatch.setenv("MARLOOP_RUN_DIR", str(tmp_path / "run"))
    run = CliRunner().invoke
    signing = run(app, ["sign", "doubling", "1.0", "--key", str(keys.signing_key)])
    assert (signing.exit_code, "doubling 1.0 is signed" in signing.output) == (0, True)
    verifying = run(app, ["verify", "--key", str(keys.public_key)])
    assert verifying.exit_code == 1
    assert f"doubling 1.0: as registered, and signed for {keys.public_key}" in verifying.output
    assert "line 1.0: " in verifying.output
    assert run(app, ["verify", "doubling", "--key", str(keys.public_key)]).exit_code == 0
    assert run(app, ["verify"]).exit_code == 0
    assert "there is no private key" in run(app, ["sign", "doubling", "1.0"]).output
    missing = run(app, ["sign", "doubling", "9.9", "--key", str(keys.signing_key)])
    assert "doubling 9.9 is not registered" in missing.output
    assert "nothing is not registered" in run(app, ["verify", "nothing"]).output
