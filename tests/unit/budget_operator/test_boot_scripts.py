"""The scripts that every VM runs, function by function in a real bash; tests/e2e boots machines with them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

BOOT = Path(__file__).parents[3] / "operator" / "budget_operator" / "boot"
SCRIPTS = ("startup.sh", "shutdown.sh")
LIMIT = 256 * 1024

# The machine's programs as functions that only tell how they were called.
STUBS = """
docker() { echo "docker $*" >>"$run/calls"; }
iptables() { echo "iptables $*" >>"$run/calls"; }
curl() { echo "curl ${*: -2}" >>"$run/calls"; }
sleep() { echo "sleep $*" >>"$run/calls"; }
"""


class Machine:
    """A bash that has read startup.sh, with /run/budgetml in a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.run.mkdir()
        self._startup = folder / "startup.sh"
        self._startup.write_text(at(self.run, "startup.sh"))

    def bash(self, body: str) -> str:
        script = f"source {self._startup}\n{STUBS}\n{body}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def calls(self) -> list[str]:
        file = self.run / "calls"
        return file.read_text().splitlines() if file.exists() else []


def at(run: Path, script: str) -> str:
    return (BOOT / script).read_text().replace("/run/budgetml", str(run))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_is_a_bash_script_that_fits_into_metadata(script: str) -> None:
    text = (BOOT / script).read_text()
    assert text.startswith("#!/bin/bash\n"), "the machine executes it by this line"
    assert len(text.encode()) < LIMIT
    assert subprocess.run(["bash", "-n", BOOT / script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("config", "image"),
    [
        ('{"version":1,"image":"r.internal/b/server:0.1.0","deployment":"d"}', "r.internal/b/server:0.1.0"),
        ('{"version":1,"image":"r/s@sha256:ab"}', "r/s@sha256:ab"),
        ('{"version":1,"deployment":"image"}', ""),
        ("", ""),
    ],
)
def test_the_image_is_read_without_a_json_parser(machine: Machine, config: str, image: str) -> None:
    (machine.run / "config").write_text(config)
    assert machine.bash('image_in "$run/config"') == image


def test_pauses_grow_to_a_minute(machine: Machine) -> None:
    assert machine.bash("p=1; for i in {1..8}; do p=$(longer $p); printf '%s ' $p; done") == (
        "2 4 8 16 32 60 60 60"
    )


def test_seconds_have_two_decimals(machine: Machine) -> None:
    assert machine.bash("now_us() { echo 12345678; }; seconds_since 5300000") == "7.04"


def test_a_failed_pull_is_told_as_json_whatever_it_says(machine: Machine) -> None:
    (machine.run / "pull").write_text('denied: "b\\c"\n\tline é ' + "x" * 2000)
    body = machine.bash('put_guest_attribute() { echo "$2"; }; tell_failed_pull r/s:1 | tail -n 1')
    told = json.loads(body)
    assert told["reason"] == "ImagePullFailed"
    assert told["message"].startswith('r/s:1: denied: "b\\c"')
    assert len(told["message"]) <= 600


def test_a_pull_that_fails_because_the_machine_goes_down_is_not_told(machine: Machine) -> None:
    machine.bash('docker() { return 1; }; echo eof >"$run/pull"; tell_failed_pull r/s:1 || true')
    assert machine.calls == []


def test_ports_are_opened_once(machine: Machine) -> None:
    machine.bash("open_ports")
    assert [call for call in machine.calls if " -A " in call] == [], "both were open already"
    machine.bash('iptables() { echo "iptables $*" >>"$run/calls"; [[ $2 == -A ]]; }; open_ports')
    assert [call for call in machine.calls if " -A " in call] == [
        "iptables -w -A INPUT -p tcp --dport 80 -j ACCEPT",
        "iptables -w -A INPUT -p tcp --dport 443 -j ACCEPT",
    ]


@pytest.mark.parametrize(
    ("image", "expected", "reason"),
    [
        (
            "us-docker.pkg.dev/p/r/s:1",
            ["configure-docker --registries=us-docker.pkg.dev"],
            "Google's registry",
        ),
        ("ghcr.io/o/s:1", [], "needs no Google login"),
        ("registry.budget.internal/b/s:1", [], "the local one needs none"),
    ],
)
def test_only_googles_registry_gets_a_login(
    machine: Machine, image: str, expected: list[str], reason: str
) -> None:
    machine.bash(f'docker-credential-gcr() {{ echo "$*" >>"$run/calls"; }}; log_in_to_registry {image}')
    assert machine.calls == expected, reason


def test_without_the_credential_helper_the_pull_is_still_tried(machine: Machine) -> None:
    machine.bash("pull us-docker.pkg.dev/p/r/s:1")
    assert machine.calls == ["docker pull --quiet us-docker.pkg.dev/p/r/s:1"]


def test_an_image_on_disk_serves_while_the_registry_is_away(machine: Machine) -> None:
    out = machine.bash(
        "read_wanted_image() { echo r/s:1; }; pull() { echo 'no route' >\"$run/pull\"; return 1; }\n"
        'fetch_first_image; echo "image=$image"'
    )
    assert out.endswith("image=r/s:1")
    assert [call.partition(" ")[0] for call in machine.calls] == ["docker", "curl"], "no pause, nothing told"


def test_the_first_pull_is_tried_until_it_works_and_follows_a_corrected_image(machine: Machine) -> None:
    out = machine.bash(
        'read_wanted_image() { [[ -e $run/again ]] && echo r/s:2 || echo r/s:1; touch "$run/again"; }\n'
        'pull() { echo "pull $1" >>"$run/calls"; echo unknown >"$run/pull"; [[ $1 == r/s:2 ]]; }\n'
        "docker() { [[ $1 == ps ]]; }\n"
        'fetch_first_image; echo "image=$image"'
    )
    assert out.endswith("image=r/s:2")
    steps = [call for call in machine.calls if not call.startswith("curl")]
    assert steps == ["pull r/s:1", "sleep 1", "pull r/s:2"]
    assert not (machine.run / "pull-failed").exists()


def test_the_one_container_has_few_rights_and_no_restart_policy(machine: Machine) -> None:
    machine.bash("BUDGET_BOOT_ENGINE=0.10 BUDGET_BOOT_PULL=2.00; run_container r/s:1")
    removed, ran = machine.calls
    assert removed == "docker rm -f budgetml", "the last boot's container is replaced, the volume is kept"
    words = ran.split()
    assert words[-1] == "r/s:1"
    for flags in (
        "-d --name budgetml --network host --init --read-only",
        "-v budgetml:/var/lib/budgetml",
        "--stop-timeout 27 --log-opt max-size=10m",
        "--security-opt no-new-privileges --cap-drop ALL",
        "-e BUDGET_BOOT_ENGINE=0.10 -e BUDGET_BOOT_PULL=2.00",
    ):
        assert flags in ran
    granted = [words[at + 1] for at, word in enumerate(words) if word == "--cap-add"]
    assert granted == ["NET_BIND_SERVICE", "SETUID", "SETGID", "CHOWN", "KILL"]
    assert "--restart" not in ran
    assert "docker.sock" not in ran


def keep(machine: Machine, times: int, lives: int = 1) -> list[str]:
    """The calls of `keep` with a container that lives so many seconds, until it ended so often."""
    (machine.run / "image").write_text("r/s:1\n")
    machine.bash(
        'run_container() { echo "run $1" >>"$run/calls"; }\n'
        f"wait_for_end() {{ echo 3; }}; docker() {{ SECONDS=$((SECONDS + {lives})); }}\n"
        'pause_for() { echo "pause $1" >>"$run/calls"\n'
        f'[[ $(grep -c pause "$run/calls") -lt {times} ]] || touch "$run/stopping"; }}\n'
        "keep"
    )
    return [call for call in machine.calls if call.startswith("pause")]


def test_a_container_that_keeps_dying_is_restarted_ever_more_slowly(machine: Machine) -> None:
    assert keep(machine, 4) == ["pause 1", "pause 2", "pause 4", "pause 8"]


def test_a_container_that_ran_for_long_is_restarted_at_once(machine: Machine) -> None:
    assert keep(machine, 3, lives=301) == ["pause 1", "pause 1", "pause 1"]


def test_another_image_is_run_without_a_pause(machine: Machine) -> None:
    (machine.run / "image").write_text("r/s:1\n")
    machine.bash(
        'run_container() { echo "run $1" >>"$run/calls"; [[ $1 == r/s:1 ]] || touch "$run/stopping"; }\n'
        'wait_for_end() { echo r/s:2 >"$run/image"; }; docker() { :; }; keep'
    )
    assert machine.calls == ["run r/s:1", "run r/s:2"]


def test_an_engine_that_restarts_is_not_the_containers_end(machine: Machine) -> None:
    out = machine.bash(
        'docker() { echo "docker $1" >>"$run/calls"\n'
        '[[ $1 != wait ]] || { (($(grep -c wait "$run/calls") > 1)) && echo 137; }; }\n'
        "wait_for_end"
    )
    assert out == "137"
    assert machine.calls == ["docker wait", "docker ps", "docker inspect", "docker wait"]


def test_a_new_image_is_pulled_before_the_old_container_stops(machine: Machine) -> None:
    (machine.run / "image").write_text("r/s:1\n")
    (machine.run / "config").write_text('{"image":"r/s:2"}')
    machine.bash("take_config")
    assert machine.calls == ["docker pull --quiet r/s:2", "docker stop -t 27 budgetml"]
    assert (machine.run / "image").read_text() == "r/s:2\n"


def test_an_image_that_cannot_be_pulled_leaves_the_container_alone(machine: Machine) -> None:
    (machine.run / "image").write_text("r/s:1\n")
    (machine.run / "config").write_text('{"image":"r/s:2"}')
    machine.bash('docker() { echo "docker $1" >>"$run/calls"; [[ $1 != pull ]]; }; ! take_config')
    assert "docker stop" not in machine.calls
    assert (machine.run / "image").read_text() == "r/s:1\n"
    (machine.run / "config").write_text('{"image":"r/s:1"}')
    machine.bash("take_config")
    assert not (machine.run / "pull-failed").exists(), "back to the old one: all is well again"


def test_follow_waits_for_the_change_after_the_one_it_saw(machine: Machine) -> None:
    machine.bash(
        'get_metadata() { echo "$2" >>"$run/calls"; local calls=$(wc -l <"$run/calls")\n'
        'printf "ETag: tag%s\\r\\n" "$calls" >"$4"; ((calls < 3)) || touch "$run/stopping"; }\n'
        'take_config() { (($(wc -l <"$run/calls") != 2)); }; follow'
    )
    asked = [call.partition("timeout_sec=")[2] for call in machine.calls]
    assert asked == ["60&last_etag=0", "60&last_etag=tag1", "1&last_etag=tag2"], "a failure is retried soon"


def test_shutdown_ends_the_loops_and_lets_the_container_finish(tmp_path: Path) -> None:
    run, programs = tmp_path / "run", tmp_path / "bin"
    run.mkdir()
    programs.mkdir()
    docker = programs / "docker"
    docker.write_text(f'#!/bin/bash\necho "$*" >>{run}/calls\nexit 1\n')
    docker.chmod(0o755)
    loop = subprocess.Popen(["bash", "-c", "while :; do sleep 60; done"], start_new_session=True)
    (run / "keep.pid").write_text(f"{loop.pid}\n")
    (run / "follow.pid").write_text("")
    try:
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", at(run, "shutdown.sh")], env=environment, timeout=20, check=False
        )
        assert loop.wait(timeout=10) == -signal.SIGTERM
    finally:
        loop.kill()
    assert done.returncode == 0, "an engine that is going down already is no failure"
    assert (run / "stopping").exists()
    assert (run / "calls").read_text() == "stop -t 27 budgetml\n"
