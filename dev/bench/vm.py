"""How fast a VM boots: `make bench-vm`, on the local cloud with VMs in Docker.

Each round makes the iris example from nothing, runs the same image by a bare `docker run` in its VM, and
takes the VM away and starts it again. What counts is a caller's first prediction; when the cloud was asked
stands in the local cloud's journal, whoever asked.
"""

import base64
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from dev import demo, engine, environment, stack
from dev.bench.results import verdict
from dev.demo import IRIS, Story, posts
from dev.errors import DevError
from dev.paths import LOCAL, MAIN, locked
from dev.progress import step, until

COLD_GOAL, REBOOT_GOAL = 30.0, 6.0
RESULTS = LOCAL / "bench" / "vm.json"
BARE_PORT = 18080
PATIENCE = 300.0
PHASES = ("engine", "pull", "artifact", "environment", "load", "frontDoor", "certificate")
LAST_PHASE = "load"
_BARE = Path(__file__).with_name("bare_run.sh")


@dataclass(frozen=True)
class Boot:
    """From the call that made or started the VM to a caller's first prediction, and the phases in the VM."""

    seconds: float
    phases: Mapping[str, float]


@dataclass
class Figures:
    """All rounds."""

    cold: list[Boot] = field(default_factory=list)
    reboot: list[Boot] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)


def run(rounds: int) -> bool:
    """Measure, print and write down; a missed goal is no failure."""
    figures = Figures()
    was_up, engine_was_up = stack.running(MAIN), engine.find() is not None
    with locked("bench"):
        try:
            story = Story(stack.up(MAIN))
            for number in range(rounds):
                with step(f"round {number + 1} of {rounds}"):
                    _round(story, figures)
        finally:
            if not was_up:
                stack.down(MAIN)
                if not engine_was_up:
                    engine.release()
    _write(figures)
    for line in table(figures):
        print(line)
    return True


def _round(story: Story, figures: Figures) -> None:
    story.stack.kubectl("delete", "bd/iris", "--ignore-not-found", "--namespace=default", "--timeout=120s")
    try:
        figures.cold.append(_cold(story))
        figures.bare.append(_bare(story))
        figures.reboot.append(_reboot(story))
    finally:
        story.stack.kubectl("delete", "bd/iris", "--namespace=default", "--timeout=120s")


def _cold(story: Story) -> Boot:
    """A VM that has never run before: no image, no environment, no certificate."""
    since = _newest(story)
    story.stack.kubectl("apply", "-f", "examples/iris/deployment.yaml")
    until(lambda: bool(_status(story).get("ip")), 60, "the deployment has no address", 0.1)
    token = _token(story)
    caller = Caller(f"https://{_status(story)['ip']}", token, None)
    caller.wait()
    return _told(story, caller, _called(story, "/instances", since), {})


def _reboot(story: Story) -> Boot:
    """After a preemption, from the call that starts it again."""
    vm = story.instance("iris")
    status = _status(story)
    caller = Caller(f"https://{status['ip']}", _token(story), status["caCertificate"])
    since = _newest(story)
    story.run("localcloud", "preempt", vm["name"])
    until(lambda: demo.stopped_since(story, vm), 120, "the VM is not TERMINATED after its preemption", 0.05)
    path = f"/compute/v1/projects/{environment.PROJECT}/zones/{status['zone']}/instances/{vm['name']}/start"
    httpx.post(f"{story.home.cloud_url}{path}", timeout=30).raise_for_status()
    caller.wait()
    return _told(story, caller, _called(story, f"/instances/{vm['name']}/start", since), status["boot"])


def _bare(story: Story) -> float:
    """`docker run` of the same image in the same VM, as the script beside this module does it."""
    docker, name = story.stack.docker, story.instance("iris")["name"]
    (container,) = docker.ids("container", f"localcloud.vm={name}")
    done = docker.run(
        "exec", container, "bash", "-c", _BARE.read_text(), "bare", str(BARE_PORT), _question(), timeout=120
    )
    if done.returncode:
        raise DevError(f"The bare docker run failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def _question() -> str:
    return json.dumps({"payload": IRIS})


@dataclass
class Caller:
    """Asks over a new connection each time until there is an answer; without a CA, of anybody."""

    url: str
    token: str
    authority: str | None
    answered_at: float = 0.0

    def wait(self) -> None:
        """Until the first good answer; its time is kept."""
        until(self._asks, PATIENCE, f"{self.url} does not answer", interval=0.01)

    def _asks(self) -> bool:
        context = ssl.create_default_context(cadata=self.authority)
        if self.authority is None:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            answer = httpx.post(
                f"{self.url}/predict_dict",
                json={"payload": IRIS},
                headers=headers,
                verify=context,
                timeout=httpx.Timeout(10, connect=0.5),
                trust_env=False,
            )
        except httpx.TransportError:
            return False
        self.answered_at = time.time()
        return answer.status_code == 200 and answer.json()["species"] == "setosa"


def _told(story: Story, caller: Caller, called_at: float, before: Mapping[str, float]) -> Boot:
    """The operator reads the phases some time after the switch: until then the status has those of before."""

    phases: dict[str, float] = {}

    def told() -> bool:
        phases.update(_status(story).get("boot", {}))
        return LAST_PHASE in phases and phases != before

    until(told, 180, "the status does not tell the phases of this boot", 0.5)
    return Boot(caller.answered_at - called_at, phases)


def _status(story: Story) -> dict[str, Any]:
    return dict(story.deployment("iris").get("status", {}))


def _token(story: Story) -> str:
    secret = story.stack.kubectl.json("get", "secret", _status(story)["loginSecret"])
    return base64.b64decode(secret["data"]["token"]).decode()


def _newest(story: Story) -> int:
    return max((entry["id"] for entry in story.journal()), default=0)


def _called(story: Story, end: str, since: int) -> float:
    """When the cloud was first asked for this after that entry, in seconds since 1970."""
    later = [entry for entry in story.journal() if entry["id"] > since and entry["status"] == 200]
    return datetime.fromisoformat(posts(later, end)[0]["time"]).timestamp()


def table(figures: Figures) -> Sequence[str]:
    """The figures for people: medians, how far the rounds lie apart, goals, phases."""
    bare = median(figures.bare)
    lines = ["", f"{'':<44}{'seconds':>9}  {'of the rounds':<15}{'x bare':>7}  goal"]

    def row(name: str, taken: Sequence[float], goal: float | None = None) -> None:
        middle, spread = median(taken), f"{min(taken):.1f}-{max(taken):.1f}"
        told = verdict(middle, goal, at_most=True) if goal else ""
        lines.append(f"{name:<44}{middle:>9.2f}  {spread:<15}{middle / bare:>7.1f}  {told}".rstrip())

    row("bare docker run to first prediction", figures.bare)
    row("start call to first prediction, same disk", _seconds(figures.reboot), REBOOT_GOAL)
    row("insert call to first prediction, new disk", _seconds(figures.cold), COLD_GOAL)
    lines += ["", f"{'seconds of the phases in the VM':<44}" + "".join(f"{name:>13}" for name in PHASES)]
    for name, boots in (("same disk", figures.reboot), ("new disk", figures.cold)):
        lines.append(f"{name:<44}" + "".join(_phase(boots, phase) for phase in PHASES))
    return lines


def _seconds(boots: Sequence[Boot]) -> list[float]:
    return [boot.seconds for boot in boots]


def _phase(boots: Sequence[Boot], phase: str) -> str:
    taken = [boot.phases[phase] for boot in boots if phase in boot.phases]
    return f"{median(taken):>13.1f}" if taken else f"{'-':>13}"


def _write(figures: Figures) -> None:
    def boots(all_: Sequence[Boot]) -> list[dict[str, Any]]:
        return [{"seconds": round(boot.seconds, 3), "phases": dict(boot.phases)} for boot in all_]

    content = {"bare": figures.bare, "reboot": boots(figures.reboot), "cold": boots(figures.cold)}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
