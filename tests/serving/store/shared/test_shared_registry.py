"""A registry that several machines share: nothing is lost, whoever writes at once or dies, on S3 and in PostgreSQL."""

import signal
import threading

import pytest

from serving.registry import ArchiveError, Registry, Version
from serving.store.shared.archives import SharedArchives
from serving.store.shared.origin import Origin
from serving.store.shared.s3_objects import Objects
from serving.store.shared.s3_registry import LOCK, S3Registry
from tests.serving.store.conftest import SharedStore
from tests.support.serving.s3 import S3Server
from tests.support.serving.stores import add
from tests.support.waiting import wait_until

# Each registers versions of its own with a real archive, and versions of a model that both have.
WRITER = """
me, rounds = sys.argv[1], int(sys.argv[2])
store = registry(me)
for i in range(rounds):
    with store.change() as models:
        path = store.store / f"{me}-1.{i}.mar"
        path.write_bytes(f"{me} {i}".encode())
        models.setdefault(me, {})[f"1.{i}"] = Version(path.name, file_sha256(path), "challenger", "now")
        both = models.setdefault("both", {})
        both[f"1.{len(both)}"] = Version(path.name, file_sha256(path), "challenger", "now")
"""
HOLDER = """
store = registry("holder")
with store.change() as models:
    models["doubling"]["1.0"].state = "refused"
    open(sys.argv[1], "w").close()
    time.sleep(600)
"""
ROUNDS = 12


def states(registry: Registry, name: str = "doubling") -> dict[str, str]:
    return {number: version.state for number, version in registry.models()[name].items()}


def test_a_new_store_has_no_models(shared: SharedStore) -> None:
    assert shared.registry().models() == {}


def test_what_one_machine_registers_another_serves_byte_for_byte(shared: SharedStore) -> None:
    path = add(shared.registry("a"))
    other = shared.registry("b")
    version = other.champion("doubling").version
    assert other.verify(version) == other.store / "doubling-1.0.mar" != path
    assert other.verify(version).read_bytes() == path.read_bytes()
    assert other.champion_contract("doubling").version == "1.0"


def test_writers_on_several_machines_lose_nothing(shared: SharedStore) -> None:
    names = ("a", "b", "c")
    writers = [shared.run(WRITER, name, ROUNDS) for name in names]
    reader = shared.registry("reader")
    while any(writer.poll() is None for writer in writers):
        assert reader.damaged() == {}
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    models = shared.registry("later").models()
    assert all(len(models[name]) == ROUNDS for name in names)
    assert len(models["both"]) == len(names) * ROUNDS
    later = shared.registry("later")
    assert later.verify(models["a"]["1.3"]).read_bytes() == b"a 3"


def test_a_block_that_raises_changes_nothing_and_lets_others_go_on(shared: SharedStore) -> None:
    registry = shared.registry()
    add(registry)

    def clear_and_fail() -> None:
        with registry.change() as models:
            models.clear()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        clear_and_fail()
    assert states(registry) == {"1.0": "champion"}
    shared.registry("b").promote("doubling", "1.0")


def test_history_and_removed_numbers_are_shared(shared: SharedStore) -> None:
    one, other = shared.registry("a"), shared.registry("b")
    add(one, number="1.0")
    add(one, number="1.1", state="challenger")
    other.promote("doubling", "1.1", "serving promote", "asked for by hand")
    one = shared.registry("a")
    assert [(noted.version, noted.former) for noted in one.promotions()] == [("1.1", "1.0")]
    assert one.remove("doubling", "1.0") == {"1.0": "doubling-1.0.mar"}
    assert shared.registry("c").removed("doubling") == ["1.0"]


def test_an_archive_that_is_discarded_is_gone_on_every_machine_that_has_none(shared: SharedStore) -> None:
    registry = shared.registry("a")
    path = add(registry)
    version = registry.champion("doubling").version
    assert registry.files.size(version) == path.stat().st_size
    registry.files.discard(version.archive)
    registry.files.discard(version.archive)
    assert registry.files.size(version) is None
    with pytest.raises(ArchiveError, match=r"doubling-1.0/[0-9a-f]{64}.mar cannot be fetched to .*: it is not there"):
        shared.registry("b").verify(version)


def test_a_writer_that_is_killed_changes_nothing_and_another_takes_over(shared: SharedStore) -> None:
    registry = shared.registry()
    if shared.url.startswith("s3"):  # where a lock runs out
        origin = Origin(SharedArchives(shared.url), S3Registry(Objects(shared.url), lasts=1.5))
        registry = Registry(registry.store, origin)
    add(registry)
    mark = shared.folder / "held"
    holder = shared.run(HOLDER, mark)
    wait_until(mark.exists)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    add(registry, number="1.1", state="challenger")
    assert states(shared.registry("b")) == {"1.0": "champion", "1.1": "challenger"}


def test_a_writer_waits_for_one_that_lives(shared: SharedStore) -> None:
    registry, done = shared.registry(), threading.Event()
    add(registry)

    def promote() -> None:
        shared.registry("b").promote("doubling", "1.0")
        done.set()

    with registry.change():
        thread = threading.Thread(target=promote)
        thread.start()
        assert not done.wait(1)
    thread.join(30)
    assert done.is_set()


def test_an_altered_archive_is_not_registered(shared: SharedStore) -> None:
    registry = shared.registry()
    registry.store.mkdir(parents=True)
    (registry.store / "line-1.0.mar").write_bytes(b"other")
    with pytest.raises(ArchiveError, match="is not the archive that is to be registered"), registry.change() as models:
        models["line"] = {"1.0": Version("line-1.0.mar", "0" * 64, "champion", "now")}
    assert shared.registry("b").models() == {}


def test_a_copy_is_changed_only_by_way_of_its_store(shared: SharedStore) -> None:
    from serving.store.shared.mirror import Mirror

    registry = shared.registry()
    add(registry)
    Mirror(registry).synchronise()
    copy = Registry(registry.store)
    assert states(copy) == {"1.0": "champion"}
    with pytest.raises(ArchiveError, match=f"is a copy of {shared.url}: set MARLOOP_MODEL_STORE"), copy.change():
        pass


def test_a_writer_that_was_taken_for_dead_overwrites_nothing(on_s3: SharedStore, s3: S3Server) -> None:
    add(on_s3.registry("a"))
    objects = Objects(on_s3.url, s3.client())
    asleep = S3Registry(objects)
    with asleep.changing() as late:
        Objects(on_s3.url, s3.client()).write(LOCK, b"{}", tag_of(objects))  # as if its lock had run out
        add(on_s3.registry("b"), number="1.1", state="challenger")
        with pytest.raises(ArchiveError, match="took this one for dead, changed it meanwhile"):
            late.write(b'{"models": {}}')
    assert states(on_s3.registry("c")) == {"1.0": "champion", "1.1": "challenger"}


def test_a_write_whose_answer_was_lost_counts_as_done(on_s3: SharedStore, s3: S3Server) -> None:
    objects = Objects(on_s3.url, s3.client())
    tag = objects.write("registry.json", b"{}", "")
    new = objects.write("registry.json", b"{ }", tag)
    assert objects.write("registry.json", b"{ }", tag) == new  # the client tries again what the server has done


def tag_of(objects: Objects) -> str:
    snapshot = objects.read(LOCK)
    assert snapshot is not None
    return snapshot.tag
