"""The power goes at any moment, without a notice: the next boot serves, only open connections are lost."""

import contextlib
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from budget_server.vm import disk, revisions
from budget_server.vm.config import BudgetConfig

Code = Callable[[str], dict[str, str]]
WAITING = """
import pathlib, time
class Predictor:
    def load(self):
        while not pathlib.Path({go!r}).exists():
            time.sleep(0.05)
    def predict(self, request): return {{"says": "two"}}
"""
AUTHORITY = ("root.crt", "root.key", "intermediate.crt", "intermediate.key")


def test_content_reaches_the_disk_before_its_name_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    flush, rename = os.fsync, os.replace

    def note_flush(descriptor: int) -> None:
        done.append(("flush", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        flush(descriptor)

    def note_rename(source: Path, target: Path) -> None:
        done.append(("rename", target.name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(os, "replace", note_rename)
    path = tmp_path / "revisions.json"
    path.write_text("old")
    revisions.save(revisions.Record(), path)
    assert done == [("flush", "revisions.json.new"), ("rename", "revisions.json"), ("flush", tmp_path.name)]
    assert revisions.load(path) == revisions.Record()
    assert path.stat().st_mode & 0o077 == 0


def test_a_write_that_was_cut_short_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "revisions.json"
    disk.write(path, "old")

    def cut(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", cut)
        disk.write(path, "new, and longer")
    assert path.read_text() == "old"
    disk.write(path, "newer")
    assert path.read_text() == "newer"
    assert [each.name for each in tmp_path.iterdir()] == ["revisions.json"]


def test_a_rollout_that_was_cut_short_is_done_again(
    world: Any, vm: Any, predictor: Code, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    world.publish("a" * 12, predictor("one"))
    vm.boot()
    world.await_state(active="a" * 12)
    readiness = {"readiness": {"payload": None, "startupSeconds": 60}}
    config = world.publish("b" * 12, {"predictor.py": WAITING.format(go=str(go))}, readiness)
    world.await_state(phase="load", target="b" * 12)
    vm.cut_power()
    record = revisions.load(vm.disk / "revisions.json")
    assert record.accepted == BudgetConfig.model_validate(config)
    go.touch()
    world.states.clear()
    vm.boot()
    state = world.await_state(phase="serving", active="b" * 12)
    assert state["failure"] is None
    with vm.client() as client:
        assert vm.predict(client).json() == {"says": "two"}


@pytest.mark.parametrize("seconds", [0.0, 0.15, 0.4, 0.8])
def test_a_boot_that_was_cut_short_is_done_again(
    world: Any, vm: Any, predictor: Code, seconds: float
) -> None:
    world.publish("a" * 12, predictor("one"))
    vm.boot()
    time.sleep(seconds)  # the power goes when it goes
    vm.cut_power()
    vm.boot()
    world.await_state(active="a" * 12)
    with vm.client() as client:
        assert vm.predict(client, 7).json() == {"says": "one", "x": 7, "env": "y"}


@pytest.mark.parametrize("made", range(1, len(AUTHORITY)))
def test_an_authority_that_was_half_made_is_completed(
    world: Any, vm: Any, until: Callable[..., Any], made: int
) -> None:
    vm.boot()
    with vm.client():
        root = world.guest.pop("ca")
    vm.cut_power()
    place = vm.disk / "caddy/pki/authorities/local"
    assert sorted(each.name for each in place.iterdir()) == sorted(AUTHORITY)
    for name in AUTHORITY[made:]:
        (place / name).unlink()
    vm.boot()
    with vm.client() as client:
        until(lambda: is_alive(client))
    assert (world.guest["ca"] == root) == (made >= 2), "a complete root stays"


def test_a_lock_that_nobody_holds_any_more_is_not_waited_for(vm: Any, until: Callable[..., Any]) -> None:
    vm.boot()
    vm.client().close()
    vm.cut_power()
    certificate = vm.disk / "caddy/certificates/local/127.0.0.1/127.0.0.1.crt"
    certificate.unlink()
    now = datetime.now(UTC).isoformat()
    locks = vm.disk / "caddy/locks"
    locks.mkdir(exist_ok=True)
    (locks / "issue_cert_127.0.0.1.lock").write_text(json.dumps({"created": now, "updated": now}))
    vm.boot()
    with vm.client() as client:
        until(lambda: is_alive(client))
        seconds = time.monotonic() - vm.started
    assert seconds < 5


def is_alive(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.ConnectError):  # it listens before it has its certificate
        return client.get("/healthz/live").status_code == 200
    return False
