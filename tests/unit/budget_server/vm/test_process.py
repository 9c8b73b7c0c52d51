"""Child processes, their output and their user."""

import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from budget_server.vm.process import MASK, Child, Identity, Masker, UnknownUser, describe_exit, members

ENV = {"PATH": "/usr/bin:/bin"}


def test_output_is_passed_on_masked_and_its_end_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    script = "for i in 1 2 3; do echo line $i p4ssword; done; exit 3"
    child = Child(["/bin/sh", "-c", script], env=ENV, mask=Masker(["p4ssword"]), keep_lines=2)
    assert child.wait(10)
    assert child.exit_code == 3
    assert child.tail() == "line 2 [secret]\nline 3 [secret]"
    assert "line 1 [secret]" in capsys.readouterr().out


def test_masking() -> None:
    mask = Masker(["abcd", "abcdef", "1", "first line\nsecond line"])
    assert mask("abcdef abcd 1") == "[secret] [secret] 1", "the longer first, short values not at all"
    assert mask("x second line y") == "x [secret] y"


@pytest.mark.parametrize("secret", ["back\\slash", 'it\'s a "quote"', "grüße", "one\ntwo lines"])
@pytest.mark.parametrize("written", [lambda text: str({"A": text}), lambda text: json.dumps({"A": text})])
def test_masking_of_what_was_quoted(secret: str, written: Callable[[str], str]) -> None:
    assert Masker([secret])(written(secret))[7:-2] == MASK


def test_killing_ends_what_it_started(until: Callable[..., Any]) -> None:
    child = Child(["/bin/sh", "-c", "sleep 60 & sleep 60"], env=ENV)
    pids = until(lambda: found if len(found := members(child.pid)) == 3 else ())
    child.kill()
    until(lambda: not any(_runs(pid) for pid in pids))


def test_input_and_directory(tmp_path: Path) -> None:
    child = Child(["/bin/sh", "-c", "pwd; cat"], env=ENV, cwd=tmp_path, stdin=b"given\n")
    assert child.wait(10)
    assert child.tail() == f"{tmp_path}\ngiven"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (None, "is still running"),
        (3, "ended with exit code 3"),
        (-15, "was ended by SIGTERM"),
        (-9, "was ended by SIGKILL; the machine may be out of memory"),
    ],
)
def test_endings_in_words(code: int | None, text: str) -> None:
    assert describe_exit(code) == text


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can only be taken by root")
def test_another_user_owns_what_it_makes_and_process_1_may_remove_it(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    identity = Identity.of("nobody")
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
            parent.chmod(0o711)
    place = identity.own(tmp_path / "place")
    child = Child(["/bin/sh", "-c", "id -u; id -G; mkdir -m 500 sub"], env=ENV, identity=identity, cwd=place)
    assert child.wait(10)
    assert child.tail().split() == [str(nobody.pw_uid), str(nobody.pw_gid)]
    assert (place / "sub").stat().st_uid == nobody.pw_uid
    identity.remove(place)
    assert not place.exists()


def test_an_unknown_user_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UnknownUser, match="FROM"):
        Identity.of("nobody-of-that-name")
    assert Identity.of("") == Identity()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
