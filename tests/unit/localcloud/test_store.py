import random
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from localcloud.store import AlreadyExists, Json, Store


def test_documents_are_kept_by_kind_and_key(store: Store) -> None:
    store.insert("vm", "projects/p/vm1", {"a": 1})
    store.insert("disk", "projects/p/vm1", {"a": 2})
    assert store.get("vm", "projects/p/vm1") == {"a": 1}
    assert store.get("vm", "projects/p/vm2") is None
    with pytest.raises(AlreadyExists):
        store.insert("vm", "projects/p/vm1", {})
    store.put("vm", "projects/p/vm1", {"a": 3})
    assert store.get("vm", "projects/p/vm1") == {"a": 3}
    assert store.delete("vm", "projects/p/vm1") is True
    assert store.delete("vm", "projects/p/vm1") is False


def test_lists_are_by_prefix_and_in_order(store: Store) -> None:
    for key in ("p/b/2", "p/b/1", "p/bb/1", "p/a/é", "q/b/1"):
        store.put("vm", key, {})
    assert [key for key, _ in store.list("vm", "p/b/")] == ["p/b/1", "p/b/2"]
    assert [key for key, _ in store.list("vm", "p/a")] == ["p/a/é"]
    assert len(store.list("vm")) == 5


def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.transaction():
        store.put("vm", "a", {})
        with store.transaction():
            store.put("vm", "b", {})
        raise RuntimeError
    assert store.list("vm") == []
    with store.transaction():
        store.put("vm", "a", {})
    assert store.get("vm", "a") == {}


def test_an_insert_refused_inside_a_transaction_leaves_the_rest(store: Store) -> None:
    store.put("vm", "a", {})
    with store.transaction():
        with pytest.raises(AlreadyExists):
            store.insert("vm", "a", {})
        store.put("vm", "b", {})
    assert store.get("vm", "b") == {}


def test_threads_count_without_losing_any(store: Store) -> None:
    store.put("n", "n", {"n": 0})

    def count() -> None:
        for _ in range(50):
            with store.transaction():
                found = store.get("n", "n")
                assert found is not None
                store.put("n", "n", {"n": found["n"] + 1})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("n", "n") == {"n": 200}


def test_a_restart_forgets_nothing_and_writes_are_noticed(tmp_path: Path) -> None:
    first = Store(tmp_path / "s.db")
    before = first.revision
    first.put("vm", "a", {"ä": ["x"]})
    assert first.revision > before
    first.close()
    assert Store(tmp_path / "s.db").get("vm", "a") == {"ä": ["x"]}


def test_a_write_is_noticed_by_its_kind_and_one_undone_too(store: Store) -> None:
    store.put("vm", "a", {})
    vms, disks = store.revisions("vm"), store.revisions("disk")
    store.put("disk", "a", {})
    assert store.revisions("vm") == vms
    assert store.revisions("disk") > disks
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.put("vm", "a", {"status": "never"})
        inside = store.revisions("vm")
        1 / 0  # noqa: B018
    assert store.revisions("vm") > inside, "what was read inside must be read again"


def test_one_field_of_all_documents_of_a_kind(store: Store) -> None:
    store.insert("vm", "a", {"ip": "1", "body": {"status": "RUNNING"}})
    store.insert("vm", "b", {"ip": ""})
    store.insert("disk", "c", {"ip": "2"})
    assert store.column("vm", "ip") == [("a", "1"), ("b", "")]
    assert store.column("vm", "body.status") == [("a", "RUNNING"), ("b", "")]
    store.put("vm", "b", {"ip": "3", "body": "none"})
    store.insert("vm", "aa", {"ip": "4"})
    store.delete("vm", "a")
    assert store.column("vm", "ip") == [("aa", "4"), ("b", "3")]
    assert store.column("vm", "body.status") == [("aa", ""), ("b", "")]


def test_what_is_shown_is_parsed_once_and_follows_every_write(store: Store) -> None:
    store.put("vm", "a", {"n": 1})
    store.put("vm", "b", {"n": 1})
    (_, first), (_, second) = store.show("vm")
    assert all(body is shown for (_, body), shown in zip(store.show("vm"), (first, second), strict=True))
    store.put("vm", "a", {"n": 2})
    assert store.show("vm", "a") == [("a", {"n": 2})]
    assert store.show("vm", "b")[0][1] is second
    store.delete("vm", "b")
    assert store.show("vm") == [("a", {"n": 2})]


def test_documents_are_found_by_an_indexed_field(store: Store, tmp_path: Path) -> None:
    for _ in range(2):
        store.index("vm", "ip")
    store.put("vm", "a", {"ip": "10.0.0.1"})
    store.put("vm", "b", {"ip": "10.0.0.2"})
    store.put("other", "c", {"ip": "10.0.0.1"})
    assert store.find("vm", "ip", "10.0.0.1") == [("a", {"ip": "10.0.0.1"})]
    store.put("vm", "a", {"ip": ""})
    assert store.find("vm", "ip", "10.0.0.1") == []
    query = "SELECT body FROM documents WHERE kind = 'vm' AND json_extract(body, '$.ip') = '10.0.0.1'"
    plan = sqlite3.connect(tmp_path / "store.db").execute(f"EXPLAIN QUERY PLAN {query}")
    assert "USING INDEX vm by ip" in plan.fetchone()[3]


def test_what_was_read_is_the_reader_s_own(store: Store) -> None:
    """However it was read: nobody changes a document but by writing it."""
    store.put("vm", "a", {"labels": {"x": "1"}, "disks": [1, 2.5, None, True]})
    reads: tuple[Callable[[], Json | None], ...] = (
        lambda: store.get("vm", "a"),
        lambda: store.list("vm")[0][1],
        lambda: store.find("vm", "labels.x", "1")[0][1],
    )
    for read in reads:
        for _ in range(2):
            found = read()
            assert found is not None
            assert found == {"labels": {"x": "1"}, "disks": [1, 2.5, None, True]}
            found["labels"]["x"] = "2"
            found["disks"].clear()


def test_what_was_read_in_a_transaction_that_failed_never_was(store: Store) -> None:
    store.put("vm", "a", {"n": 1})
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.put("vm", "a", {"n": 2, "x": "y"})
        store.put("vm", "b", {"n": 2})
        assert [body["n"] for _, body in store.list("vm")] == [2, 2]
        assert [body["n"] for _, body in store.show("vm")] == [2, 2]
        assert store.column("vm", "x") == [("a", "y"), ("b", "")]
        raise ZeroDivisionError
    assert store.get("vm", "a") == {"n": 1}
    assert store.show("vm") == [("a", {"n": 1})]
    assert store.column("vm", "x") == [("a", "")]
    assert store.get("vm", "b") is None
    assert store.list("vm") == [("a", {"n": 1})]


@pytest.mark.parametrize("held", [1, 3, 10, 1000])
def test_documents_are_right_however_many_are_held(
    store: Store, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared with a plain dictionary, over changes that come by chance."""
    monkeypatch.setattr("localcloud.store._MOST_HELD", held)
    chance, plain = random.Random(held), dict[str, int]()
    for number in range(400):
        key = f"vm-{chance.randrange(12):02d}"
        if chance.random() < 0.5:
            plain[key] = number
            store.put("vm", key, {"n": number})
        elif store.delete("vm", key):
            del plain[key]
        assert store.list("vm") == [(name, {"n": n}) for name, n in sorted(plain.items())]
        wanted = f"vm-{chance.randrange(12):02d}"
        assert store.get("vm", wanted) == ({"n": plain[wanted]} if wanted in plain else None)
