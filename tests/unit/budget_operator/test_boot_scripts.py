"""The scripts that every VM runs, function by function in a real bash; tests/e2e boots machines with them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

BOOT = Path(__file__).parents[3] / "operator" / "budget_operator" / "boot"
SCRIPTS = ("startup.sh", "shutdown.sh")
LIMIT = 256 * 1024

# The machine's programs as functions that only tell how they were called.
STUBS = """
eval "real_$(declare -f measure_down)"
measure_down() { echo "measure_down $*" >>"$run/calls"; }
docker() { echo "docker $*" >>"$run/calls"; }
iptables() { echo "iptables $*" >>"$run/calls"; }
curl() { echo "curl ${*: -2}" >>"$run/calls"; }
sleep() { echo "sleep $*" >>"$run/calls"; }
sync() { echo "sync ${*##*/}" >>"$run/calls"; }
"""


class Machine:
    """A bash that has read startup.sh, with /run/budgetml in a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.run.mkdir()
        #: Survives boots, as the home of the script does on a machine.
        self.disk = folder / "disk"
        self.disk.mkdir()
        self._startup = folder / "startup.sh"
        self._startup.write_text(at(self.run, "startup.sh"))

    def bash(self, body: str) -> str:
        script = f"source {self._startup}\nHOME={self.disk}\n{STUBS}\n{body}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def calls(self) -> list[str]:
        file = self.run / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def names(self, **images: str) -> None:
        """Which image each file below /run/budgetml names, and which one the metadata (`wanted`)."""
        for file, image in images.items():
            name, text = ("config", f'{{"image":"{image}"}}') if file == "wanted" else (file, f"{image}\n")
            (self.run / name).write_text(text)

    def told(self) -> list[dict[str, Any]]:
        """All that was told as the guest attribute, the latest last."""
        tellings = [call.removeprefix("curl ") for call in self.calls if call.endswith("/budgetml/host")]
        return [json.loads(telling.rpartition(" ")[0]) for telling in tellings]


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
    machine.names(running="r/s:0")
    machine.bash("note_failed_pull r/s:1; tell_host")
    (told,) = machine.told()
    assert (told["image"], told["reason"]) == ("r/s:0", "ImagePullFailed")
    assert told["message"].startswith('r/s:1: denied: "b\\c"')
    assert len(told["message"]) <= 600


def test_a_pull_that_fails_because_the_machine_goes_down_is_not_told(machine: Machine) -> None:
    machine.bash('docker() { return 1; }; echo eof >"$run/pull"; note_failed_pull r/s:1; tell_host')
    assert machine.told() == [{"image": "", "reason": "", "message": ""}]


def test_the_host_is_told_again_only_when_it_changed_or_could_not_be_told(machine: Machine) -> None:
    machine.bash("tell_host; tell_host")
    assert len(machine.told()) == 1
    machine.names(running="r/s:1")
    machine.bash('curl() { return 22; }; tell_host >"$run/log"')
    assert (machine.run / "log").read_text() == (
        "budgetml-host: cannot write the guest attribute budgetml/host\n"
    )
    machine.bash("tell_host; tell_host")
    assert [told["image"] for told in machine.told()] == ["", "r/s:1"]


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


def first_image(machine: Machine, pullable: str = "", on_disk: str = "") -> str:
    """Which image a boot settles for, of the wanted r/s:2 and what the disk holds."""
    out = machine.bash(
        "read_wanted_image() { [[ -e $run/corrected ]] && echo r/s:3 || echo r/s:2; }\n"
        'sleep() { echo "sleep $1" >>"$run/calls"; (($1 < 2)) || touch "$run/corrected"; }\n'
        'pull() { echo "pull $1" >>"$run/calls"; echo denied >"$run/pull"\n'
        f'[[ " {pullable} " == *" $1 "* ]]; }}\n'
        f'docker() {{ [[ $1 == ps || " {on_disk} " == *" $3 "* ]]; }}\n'
        'fetch_first_image; echo "$image"'
    )
    return out.splitlines()[-1]


def pulls(machine: Machine) -> list[str]:
    return [call for call in machine.calls if call.startswith(("pull", "sleep"))]


def test_an_image_on_disk_serves_while_the_registry_is_away(machine: Machine) -> None:
    assert first_image(machine, on_disk="r/s:2") == "r/s:2"
    assert pulls(machine) == ["pull r/s:2"]
    assert machine.told() == [{"image": "", "reason": "", "message": ""}], "nothing is wrong with the image"


def test_the_first_pull_is_tried_until_it_works_and_follows_a_corrected_image(machine: Machine) -> None:
    assert first_image(machine, pullable="r/s:3") == "r/s:3"
    assert pulls(machine) == ["pull r/s:2", "sleep 1", "pull r/s:2", "sleep 2", "pull r/s:3"]
    assert [told["reason"] for told in machine.told()] == ["ImagePullFailed", ""]


def test_the_last_image_that_ran_serves_if_the_wanted_one_cannot_be_had(machine: Machine) -> None:
    machine.bash("remember r/s:1")
    assert first_image(machine, on_disk="r/s:1") == "r/s:1"
    assert pulls(machine) == ["pull r/s:2"], "after one try, without a pause"
    assert machine.told() == [{"image": "", "reason": "ImagePullFailed", "message": "r/s:2: denied"}]


def test_a_wanted_image_on_disk_comes_before_the_last_that_ran(machine: Machine) -> None:
    machine.bash("remember r/s:1")
    assert first_image(machine, on_disk="r/s:1 r/s:2") == "r/s:2"


def test_a_last_image_that_is_gone_does_not_help(machine: Machine) -> None:
    machine.bash("remember r/s:1")
    assert first_image(machine, pullable="r/s:3") == "r/s:3"


def test_what_ran_is_on_the_disk_before_the_power_may_go(machine: Machine) -> None:
    machine.bash("remember r/s:1; remember r/s:1; remember r/s:2")
    assert machine.calls == ["sync last-image"] * 2, "only if it is another one"
    assert (machine.disk / "last-image").read_text() == "r/s:2\n"


def test_the_one_container_has_few_rights_and_no_restart_policy(machine: Machine) -> None:
    machine.bash("BUDGET_BOOT_ENGINE=0.10 BUDGET_BOOT_PULL=2.00; run_container r/s:1")
    removed, ran = machine.calls
    assert removed == "docker rm -f budgetml", "the last boot's container is replaced, the volume is kept"
    words = ran.split()
    assert words[-1] == "r/s:1"
    for flags in (
        "-d --name budgetml --network host --init --read-only --no-healthcheck",
        "-v budgetml:/var/lib/budgetml",
        "--stop-timeout 27 --log-opt max-size=10m",
        "--security-opt no-new-privileges --cap-drop ALL",
        "-e BUDGET_BOOT_ENGINE=0.10 -e BUDGET_BOOT_PULL=2.00 -e BUDGET_BOOT_IMAGE=r/s:1",
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
        f'run_container() {{ echo "run $1" >>"$run/calls"; SECONDS=$((SECONDS + {lives})); }}\n'
        "wait_for_end() { echo 3; }\n"
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
    machine.names(image="r/s:1")
    machine.bash(
        'run_container() { echo "run $1, was $(content "$run/running")" >>"$run/calls"\n'
        '[[ $1 == r/s:1 ]] || touch "$run/stopping"; }\n'
        'wait_for_end() { echo r/s:2 >"$run/image"; }; docker() { :; }; keep'
    )
    assert machine.calls == [
        "run r/s:1, was ",
        "sync last-image",
        "run r/s:2, was ",  # so that nobody takes the container to come for the one that ended
        "sync last-image",
    ]
    assert (machine.run / "running").read_text() == (machine.disk / "last-image").read_text() == "r/s:2\n"


def test_an_image_that_does_not_start_is_not_what_runs(machine: Machine) -> None:
    machine.names(image="r/s:2", running="r/s:1")
    machine.bash(
        'remember r/s:1; run_container() { return 1; }; pause_for() { touch "$run/stopping"; }; keep'
    )
    assert not (machine.run / "running").exists()
    assert (machine.disk / "last-image").read_text() == "r/s:1\n"


def test_an_engine_that_restarts_is_not_the_containers_end(machine: Machine) -> None:
    out = machine.bash(
        'docker() { echo "docker $1" >>"$run/calls"\n'
        '[[ $1 != wait ]] || { (($(grep -c wait "$run/calls") > 1)) && echo 137; }; }\n'
        "wait_for_end"
    )
    assert out == "137"
    assert machine.calls == ["docker wait", "docker ps", "docker inspect", "docker wait"]


def test_a_new_image_is_pulled_before_the_old_container_stops(machine: Machine) -> None:
    machine.names(image="r/s:1", running="r/s:1", wanted="r/s:2")
    machine.bash("! take_config")
    done = [call for call in machine.calls if "inspect" not in call and "measure" not in call]
    assert done == ["docker pull --quiet r/s:2", "docker stop -t 27 budgetml"]
    assert (machine.run / "image").read_text() == "r/s:2\n"


def test_nothing_is_stopped_while_the_next_container_is_about_to_start(machine: Machine) -> None:
    machine.names(image="r/s:2", wanted="r/s:2")
    machine.bash("! take_config")
    assert machine.calls == []


def test_a_container_of_an_image_that_is_no_longer_wanted_is_stopped_whenever_it_started(
    machine: Machine,
) -> None:
    machine.names(image="r/s:1", running="r/s:2", wanted="r/s:1")
    machine.bash("! take_config")
    assert "docker stop -t 27 budgetml" in machine.calls


def test_an_image_that_cannot_be_pulled_leaves_the_container_alone(machine: Machine) -> None:
    machine.names(image="r/s:1", running="r/s:1", wanted="r/s:2")
    machine.bash(
        'docker() { echo "docker $1" >>"$run/calls"; [[ $1 != pull ]]; }; ! take_config || exit 1; tell_host'
    )
    assert "docker stop" not in machine.calls
    assert (machine.run / "image").read_text() == "r/s:1\n"
    machine.names(wanted="r/s:1")
    machine.bash("take_config && tell_host")
    assert [(told["image"], told["reason"]) for told in machine.told()] == [
        ("r/s:1", "ImagePullFailed"),
        ("r/s:1", ""),
    ], "back to the old one: all is well again"


IMAGES = """
docker() {
  echo "docker $*" >>"$run/calls"
  case ${2-} in
    inspect) echo sha256:b ;;
    ls) printf 'sha256:%s\n' b a a c ;;
    rm) [[ $4 != sha256:a ]] ;;
  esac
}
"""


def test_images_that_are_no_longer_needed_are_removed_once_one_by_one(machine: Machine) -> None:
    machine.names(image="r/s:2", running="r/s:2", wanted="r/s:2", untidy="")
    machine.bash(f"{IMAGES}\ntake_config && take_config")
    assert [call for call in machine.calls if " rm " in call] == [
        "docker image rm --force sha256:a",
        "docker image rm --force sha256:c",
    ], "all but the one that runs; one that is in use is no failure"


@pytest.mark.parametrize(
    ("image", "running", "reason"),
    [
        ("r/s:1", "r/s:1", "the wanted one cannot be pulled: its rest is kept"),
        ("r/s:2", "r/s:1", "the old one still runs"),
        ("r/s:2", "", "nothing runs: the last that ran may be needed"),
    ],
)
def test_no_image_is_removed_before_the_wanted_one_runs(
    machine: Machine, image: str, running: str, reason: str
) -> None:
    machine.names(image=image, running=running, wanted="r/s:2", untidy="")
    machine.bash(f'{IMAGES}\npull() {{ echo no >"$run/pull"; return 1; }}; ! take_config')
    assert [call for call in machine.calls if " rm " in call] == [], reason


def test_room_is_made_before_a_pull_by_what_neither_runs_nor_ran_last(machine: Machine) -> None:
    machine.names(image="r/s:1", running="r/s:1", wanted="r/s:3")
    (machine.disk / "last-image").write_text("r/s:0\n")
    machine.bash(
        """
        docker() {
          echo "docker $*" >>"$run/calls"
          case ${2-} in
            inspect) [[ ${*: -1} != r/s:3 ]] && echo "sha256:${*: -1:1}" | sed s,r/s:,, ;;
            ls) printf 'sha256:%s\\n' 0 1 2 4 ;;
          esac
        }
        pull() { echo "pull $1" >>"$run/calls"; }
        fetch_next r/s:3
        """
    )
    changes = [call for call in machine.calls if " rm " in call or call.startswith("pull")]
    assert changes == ["docker image rm --force sha256:2", "docker image rm --force sha256:4", "pull r/s:3"]


def test_a_disk_too_small_for_the_image_is_told_apart(machine: Machine) -> None:
    (machine.run / "pull").write_text("write /x/layer.tar: no space left on device")
    machine.bash("note_failed_pull r/s:1; tell_host")
    (told,) = machine.told()
    assert told["reason"] == "DiskFull"
    assert "spec.machine.diskGiB" in told["message"] and "layer.tar" in told["message"]


@pytest.mark.parametrize(
    ("code", "answered"), [("000", False), ("200", True), ("308", True), ("401", True), ("503", False)]
)
def test_the_model_is_reached_unless_only_what_stands_before_it_answers(
    machine: Machine, code: str, answered: bool
) -> None:
    assert machine.bash(f"curl() {{ echo {code}; }}; ! answers || echo yes") == ("yes" if answered else "")


def test_the_seconds_without_an_answer_are_told_with_the_next_image(machine: Machine) -> None:
    """The old container answers twice more, nobody for a while, then the new one."""
    machine.names(image="r/s:2", running="r/s:1", wanted="r/s:2", measuring="7")
    machine.bash(
        """
        turn=0; now_us() { echo "$((1000000 + turn * 500000))"; }
        answers() { ((turn <= 2 || turn >= 6)); }
        sleep() { turn=$((turn + 1)); ((turn < 4)) || put_file "$run/running" r/s:2; }
        tell_host; real_measure_down r/s:2; tell_host
        """
    )
    before, told = machine.told()
    assert (before["image"], told["image"]) == ("", "r/s:2"), "it runs once it answers"
    assert told["replaced"] == {"image": "r/s:2", "downSeconds": 2.00}
    assert not (machine.run / "measuring").exists()


def test_what_is_measured_is_waited_for(machine: Machine) -> None:
    machine.names(image="r/s:2", running="r/s:1", wanted="r/s:2")
    machine.bash('docker() { :; }; ! take_config; put_file "$run/running" r/s:2; ! take_config')
    assert machine.calls == ["measure_down r/s:2"]
    (machine.run / "measuring").unlink()
    machine.bash("docker() { :; }; take_config")


def test_a_restart_of_the_container_takes_no_image_away(machine: Machine) -> None:
    keep(machine, 2)
    assert "docker ps" in machine.calls
    assert [call for call in machine.calls if call.startswith("docker image")] == [], (
        "`follow` may have pulled the next one a moment ago"
    )
    assert (machine.run / "untidy").exists(), "and `follow` will look after it"


def budget_kept(machine: Machine, limit: str | None) -> bool:
    """Whether it goes off, with this in the metadata; None: nobody answers."""
    answer = "return 22" if limit is None else f"printf %s '{limit}'"
    said = machine.bash(f"get_metadata() {{ {answer}; }}; poweroff() {{ echo poweroff; }}; keep_budget")
    return "poweroff" in said


def test_the_machine_goes_off_when_its_budget_is_spent(machine: Machine) -> None:
    over = '{"month":"2026-01","deadline":1767300000,"monthly":1,"running":2,"stopped":1}'
    lasts = over.replace('"monthly":1', '"monthly":99000000000000')
    assert not budget_kept(machine, None), "it has never had one"
    assert not budget_kept(machine, lasts)
    assert budget_kept(machine, over)
    assert budget_kept(machine, None), "the last one that is known counts"
    assert not budget_kept(machine, ""), "it has none any more"
    assert not budget_kept(machine, None)
    assert not budget_kept(machine, over.replace('"running":2', '"running":1')), "off it would cost more"
    assert not budget_kept(machine, '{"month":')


def follow(machine: Machine, etags: str, failing: str = "") -> list[str]:
    """What the metadata server is asked while it answers with these etags; some passes leave work behind."""
    machine.bash(
        f'etags=({etags}); passes=0; tell_host() {{ echo told >>"$run/tellings"; }}; keep_budget() {{ :; }}\n'
        'get_metadata() { echo "$2" >>"$run/calls"; printf "ETag: %s\\r\\n" "${etags[passes]}" >"$4"\n'
        'passes=$((passes + 1)); ((passes < ${#etags[@]})) || touch "$run/stopping"; }\n'
        f'take_config() {{ [[ " {failing} " != *" $passes "* ]]; }}; follow'
    )
    assert len((machine.run / "tellings").read_text().split()) == len(etags.split())
    return [call.partition("timeout_sec=")[2] for call in machine.calls]


def test_follow_waits_for_the_change_after_the_one_it_saw(machine: Machine) -> None:
    asked = follow(machine, "a b c", failing="2")
    assert asked == ["60&last_etag=0", "60&last_etag=a", "1&last_etag=b"], "a failure is retried soon"


def test_follow_tries_ever_more_slowly_until_the_configuration_changes(machine: Machine) -> None:
    asked = follow(machine, "a a a a b b", failing="1 2 3 4 5")
    assert [question.partition("&")[0] for question in asked] == ["60", "1", "2", "4", "8", "1"]


POWER = """
get_metadata() { echo 42; }
date() { echo "$now"; }
upload() { echo "upload ${1##*/} $2" >>"$run/calls"; }
"""


def test_when_the_machine_was_on_outlives_boots(machine: Machine) -> None:
    machine.bash(f"{POWER} now=100; note_power; note_power; save_power")
    assert (machine.disk / "power").read_text() == "42 on 100\n", "once for each boot"
    (machine.disk / "alive").write_text("160\n")
    (machine.run / "power-noted").unlink()
    machine.bash(f"{POWER} now=900; note_power; save_power")
    assert (machine.disk / "power").read_text() == "42 on 100\n42 off 160\n42 on 900\n"
    assert machine.calls == ["upload power power"] * 2


def test_of_very_many_boots_the_last_are_kept(machine: Machine) -> None:
    (machine.disk / "power").write_text("".join(f"42 on {number}\n" for number in range(3000)))
    machine.bash(f"{POWER} now=9999; note_power")
    lines = (machine.disk / "power").read_text().splitlines()
    assert (len(lines), lines[-1]) == (2000, "42 on 9999")


def test_a_machine_that_cannot_tell_who_it_is_notes_nothing(machine: Machine) -> None:
    machine.bash("get_metadata() { return 22; }; note_power")
    assert not (machine.disk / "power").exists()
    assert not (machine.run / "power-noted").exists()


def test_a_boot_is_not_held_up_by_a_bucket_that_refuses(machine: Machine) -> None:
    told = machine.bash(f"{POWER} upload() {{ return 22; }}; now=1; note_power; save_power")
    assert told == "budgetml-host: cannot save when this machine was on"


def test_a_file_goes_below_the_state_of_its_deployment(machine: Machine) -> None:
    (machine.run / "config").write_text('{"deployment":"d-1","bucket":"b","apiEndpoint":"http://x:1"}')
    token = 'get_metadata() { echo \'{"access_token":"secret","expires_in":9}\'; }'
    machine.bash(
        f'{token}; curl() {{ echo "$*" >>"$run/calls"; cat "${{9#@}}" >"$run/header"; }}; upload a power'
    )
    (call,) = machine.calls
    assert call.endswith(" http://x:1/upload/storage/v1/b/b/o?uploadType=media&name=state%2Fd-1%2Fpower")
    assert "secret" not in call
    assert (machine.run / "header").read_text() == "Authorization: Bearer secret\n"
