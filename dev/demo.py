"""The story, in the commands that a user would type: deploy, predict, lose the VM, serve again, delete.

Every step is checked; the first that does not hold ends the story. A stack that was not up before is ended.
"""

import base64
import json
import os
import shlex
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev import cluster, engine, environment, stack
from dev.errors import DevError
from dev.paths import MAIN, ROOT, Home, KindHome
from dev.progress import step, until
from dev.stack import Stack

# 20 by 40 orange pixels
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAABQAAAAoCAIAAABxU02MAAAAJElEQVR42u3LMQEAAAgDoGn/GubUDt7wUzt560SWZVmWZVn+"
    "OSieAfRANN7FAAAAAElFTkSuQmCC"
)
IRIS = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
READY_SECONDS = 1200
AGAIN_SECONDS = 300
COLD_GOAL, WARM_GOAL = 900.0, 180.0


@dataclass(frozen=True)
class Figure:
    """One line of the final table."""

    name: str
    seconds: float
    goal: float


@dataclass
class Client:
    """What a user of one deployment holds: its URL, its certificate authority, a token."""

    url: str
    authority: Path
    token: str
    way: tuple[str, ...] = ()  # what curl needs to reach VMs

    def curl(self, path: str, *args: str, seconds: int = 30) -> str:
        """One request over verified HTTPS with the token."""
        bearer = f"Authorization: Bearer {self.token}"
        return curl(
            self.authority, f"{self.url}{path}", "--header", bearer, *self.way, *args, seconds=seconds
        )

    def predict(self, route: str) -> Any:
        """The iris question as JSON."""
        body = json.dumps({"payload": IRIS})
        return json.loads(self.curl(route, "--header", "Content-Type: application/json", "--data", body))


@dataclass
class Story:
    """One run of the story and what it has measured."""

    stack: Stack
    figures: list[Figure] = field(default_factory=list)
    iris: Client | None = None
    lost_at: float = 0.0
    inserts: int = 0

    @property
    def home(self) -> Home:
        """The stack's home."""
        return self.stack.home

    @property
    def way(self) -> tuple[str, ...]:
        """What curl needs to reach VMs: nothing, where their addresses are those of this machine's Docker."""
        if isinstance(self.home, KindHome):
            return ("--proxy", self.home.tunnel_url, "--proxytunnel")
        return ()

    def chapter(self, name: str, goal: float, play: Callable[["Story"], None]) -> None:
        """Plays one step of the story and keeps its seconds."""
        print(f"\n--- {name}", flush=True)
        started = time.monotonic()
        play(self)
        self.figures.append(Figure(name, time.monotonic() - started, goal))

    def measure(self, name: str, seconds: float, goal: float) -> None:
        """Keeps a figure that is not a whole step."""
        self.figures.append(Figure(name, seconds, goal))

    def run(self, *argv: str) -> str:
        """Shows a command as a user types it and runs it in the stack's environment."""
        print(f"           $ {shlex.join(argv)}", flush=True)
        command = f". {shlex.quote(str(environment.path(self.home)))} && {shlex.join(argv)}"
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DevError(f"{shlex.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def resources(self) -> list[dict[str, Any]]:
        """What users have made in the local cloud."""
        return list(json.loads(self.run("localcloud", "ls", "--output", "json")))

    def deployment(self, name: str) -> dict[str, Any]:
        """The live object."""
        return dict(self.stack.kubectl.json("get", "bd", name))

    def instance(self, name: str) -> dict[str, Any]:
        """The deployment's VM, as Compute Engine describes it."""
        url = f"{self.home.cloud_url}/compute/v1/projects/{environment.PROJECT}/aggregated/instances"
        with urllib.request.urlopen(url, timeout=30) as answer:
            zones = json.loads(answer.read())["items"].values()
        found = [vm for zone in zones for vm in zone.get("instances", ())]
        return dict(next(vm for vm in found if vm["name"].startswith(f"budget-{name}-")))

    def journal(self) -> list[dict[str, Any]]:
        """Every call that reached the local cloud, the oldest first."""
        return list(json.loads(self.run("localcloud", "journal", "--output", "json", "--limit", "100000")))


def play() -> bool:
    """The whole story; true if every step held."""
    started = time.monotonic()
    was_up, engine_was_up = stack.running(MAIN), engine.find() is not None
    cold = not cluster.CONTROL_PLANE.is_built()
    figures: list[Figure] = []
    try:
        print("\n--- 1. control plane, local cloud, images, CRD, operator", flush=True)
        story = Story(stack.up(MAIN), figures)
        figures.append(Figure("1. set up", time.monotonic() - started, COLD_GOAL if cold else 60))
        tell(story)
    except DevError as error:
        print(f"\nThis step did not hold: {error}", flush=True)
        return False
    finally:
        if not was_up:
            print("\n--- the stack was not up before: taking it down", flush=True)
            stack.down(MAIN)
            if not engine_was_up:
                with step("Docker engine ended"):
                    engine.release()
    figures.append(Figure("the whole story", time.monotonic() - started, COLD_GOAL if cold else WARM_GOAL))
    print_table(figures)
    return True


def tell(story: Story) -> None:
    """All after the set-up, wherever it plays."""
    story.chapter("2. kubectl apply, Ready", 180, deploy)
    story.chapter("3. log in and predict over HTTPS", 90, predict)
    story.chapter("4. operator killed, VM preempted, serving again", 180, survive)
    story.chapter("5. operator started again", 60, recover)
    story.chapter("6. kubectl delete leaves nothing", 90, delete)


def deploy(story: Story) -> None:
    """Step 2: one apply becomes a ready endpoint, and the cloud holds what keeps it alive."""
    leftovers = ("bd/iris", "bd/photo", "--ignore-not-found", "--namespace=default", "--timeout=120s")
    story.stack.kubectl("delete", *leftovers)  # of a story that ended early on a stack that stays up
    started = time.monotonic()
    story.run("kubectl", "apply", "-f", "examples/iris/deployment.yaml")
    wait_ready(story, "iris")
    story.measure("time to Ready (cold)", time.monotonic() - started, 120)
    print(indented(story.run("kubectl", "get", "bd")))
    rows = story.resources()
    print(indented("\n".join(f"{row['kind']:<14} {row['name']:<76} {row['state']}" for row in rows)))
    kinds = {row["kind"] for row in rows}
    for wanted in ("instance", "address", "firewall", "job", "topic", "function", "bucket"):
        expect(wanted in kinds, f"the local cloud holds no {wanted}: {sorted(kinds)}")
    with step("the code is in the bucket") as current:
        objects = f"{story.home.cloud_url}/storage/v1/b/{environment.BUCKET}/o?prefix=code/"
        with urllib.request.urlopen(objects, timeout=10) as answer:
            current.note = ", ".join(item["name"] for item in json.loads(answer.read()).get("items", []))
        expect("bundle.zip" in current.note, f"the bucket holds no bundle: {current.note}")


def predict(story: Story) -> None:
    """Step 3: a login, then every route; a second deployment takes a picture."""
    with step("POST /token"):
        story.iris = log_in(story, "iris")
    for route in ("/predict", "/predict_dict"):
        with step(f"POST {route}") as current:
            answer = story.iris.predict(route)
            current.note = json.dumps(answer)
            expect(answer["species"] == "setosa", f"{route} answered {answer}")
    with step("http:// redirects") as current:
        current.note = redirect_of(story.deployment("iris")["status"]["ip"], *story.way)
        expect(current.note.startswith("https://"), f"port 80 answers with the redirect {current.note!r}")
    story.run("kubectl", "apply", "-f", "examples/photo/deployment.yaml")
    wait_ready(story, "photo")
    picture = story.home.root / "orange.png"
    picture.write_bytes(base64.b64decode(PICTURE))
    with step("POST /predict_image") as current:
        answer = json.loads(log_in(story, "photo").curl("/predict_image", "--form", f"request=@{picture}"))
        current.note = json.dumps(answer)
        expect(answer["colour"] == "#ffa500", f"/predict_image answered {answer}")


def survive(story: Story) -> None:
    """Step 4: nobody but the cloud is there to bring the VM back, and the old token still holds."""
    client = story.iris
    assert client
    before = story.instance("iris")
    story.inserts = inserts(story)
    with step("SIGKILL to the operator"):
        story.stack.kill_operator()
        expect(not story.stack.operator_lives(), "the operator lives on after SIGKILL")
    since = max(entry["id"] for entry in story.journal())
    story.run("localcloud", "preempt", before["name"])
    started = time.monotonic()
    with step("the VM is gone"):
        until(lambda: stopped_since(story, before), 180, "the VM is not TERMINATED after its preemption", 0.5)
    with step("the Scheduler's own next tick brings it back, the token of step 3 is accepted"):
        until(lambda: serves(client), AGAIN_SECONDS, "nothing serves again after the preemption", 0.5)
    story.measure("preemption to serving again", time.monotonic() - started, 150)
    with step("the keep-alive started it") as current:
        calls = starts(story.journal(), before["name"], since)
        expect(bool(calls), "the VM runs although nobody has asked the cloud to start it")
        current.note = f"asked at {calls[0]}"
        expect(not story.stack.operator_lives(), "the operator was alive during the recovery")


def recover(story: Story) -> None:
    """Step 5: the operator finds out what happened and makes nothing twice."""
    before = sorted((row["kind"], row["name"]) for row in story.resources())
    with step("operator"):
        story.stack.start_operator()

    def recorded() -> bool:
        return int(story.deployment("iris")["status"].get("preemptions", {}).get("count", 0)) == 1

    with step("one preemption in the status"):
        until(
            recorded,
            120,
            lambda: f"preemptions: {story.deployment('iris')['status'].get('preemptions')}",
            0.5,
        )
    wait_ready(story, "iris")
    after = sorted((row["kind"], row["name"]) for row in story.resources())
    expect(before == after, f"the operator changed what was there: {before} became {after}")
    expect(inserts(story) == story.inserts, "a VM was made a second time")
    expect(recorded(), "the preemption was counted more than once")
    print(indented(story.run("kubectl", "get", "bd")))


def delete(story: Story) -> None:
    """Step 6: the cloud holds nothing of ours any more."""
    story.run(
        "kubectl", "delete", "-f", "examples/iris/deployment.yaml", "-f", "examples/photo/deployment.yaml"
    )
    left = story.resources()
    expect(not left, f"the local cloud still holds {left}")


def wait_ready(story: Story, name: str) -> None:
    """kubectl wait; when it gives up, the object's status says why."""
    with step(f"{name} is Ready"):
        try:
            story.run("kubectl", "wait", "--for=condition=Ready", f"bd/{name}", f"--timeout={READY_SECONDS}s")
        except DevError as error:
            status = json.dumps(story.deployment(name).get("status", {}), indent=1)
            raise DevError(f"{error}\nstatus of {name}: {status}") from error


def log_in(story: Story, name: str) -> Client:
    """A token for the login in the deployment's Secret, over HTTPS verified against the CA in its status."""
    status = story.deployment(name)["status"]
    authority = story.home.root / f"{name}-ca.pem"
    authority.write_text(status["caCertificate"])
    data = story.stack.kubectl.json("get", "secret", status["loginSecret"])["data"]
    login = {key: base64.b64decode(data[key]).decode() for key in ("username", "password")}
    form = [word for key, value in login.items() for word in ("--data-urlencode", f"{key}={value}")]
    answer = json.loads(curl(authority, f"{status['endpoint']}/token", *story.way, *form))
    return Client(status["endpoint"], authority, answer["access_token"], story.way)


def serves(client: Client) -> bool:
    """Whether a prediction succeeds right now."""
    try:
        body = json.dumps({"payload": IRIS})
        client.curl("/predict_dict", "--header", "Content-Type: application/json", "--data", body, seconds=5)
    except DevError:
        return False
    return True


def curl(authority: Path, url: str, *args: str, seconds: int = 30) -> str:
    """A verified request; HTTP errors are errors."""
    argv = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", str(seconds)]
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(
        [*argv, "--cacert", str(authority), *args, url], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DevError(f"curl {url}: {done.stderr.strip()} {done.stdout.strip()}")
    return done.stdout


def redirect_of(ip: str, *way: str) -> str:
    """Where plain HTTP is sent to."""
    argv = ["curl", "--silent", "--max-time", "10", "--output", "/dev/null", "--write-out", "%{redirect_url}"]
    done = subprocess.run([*argv, *way, f"http://{ip}/"], capture_output=True, text=True, check=False)
    return done.stdout


def inserts(story: Story) -> int:
    """How many VMs were ever asked for."""
    return len(posts(story.journal(), "/instances"))


def stopped_since(story: Story, before: dict[str, Any]) -> bool:
    """Whether the VM has been TERMINATED since this view of it, also when it runs again by now."""
    return story.instance("iris").get("lastStopTimestamp") != before.get("lastStopTimestamp")


def starts(entries: list[dict[str, Any]], name: str, since: int) -> list[str]:
    """When, after this id of the journal, the cloud was asked to start the VM and agreed."""
    later = [entry for entry in entries if entry["id"] > since and entry["status"] == 200]
    return [entry["time"] for entry in posts(later, f"/instances/{name}/start")]


def posts(entries: list[dict[str, Any]], end: str) -> list[dict[str, Any]]:
    """The calls that asked for this; a query may follow the path."""
    wanted = [entry for entry in entries if entry["method"] == "POST"]
    return [entry for entry in wanted if entry["path"].partition("?")[0].endswith(end)]


def expect(holds: bool, otherwise: str) -> None:
    """A check of the story."""
    if not holds:
        raise DevError(otherwise)


def indented(text: str) -> str:
    """Output of a command, below its line."""
    return "\n".join(f"           {line}" for line in text.splitlines())


def print_table(figures: list[Figure]) -> None:
    """Every figure beside its goal."""
    print(f"\n{'':<50}{'seconds':>9}{'goal':>8}")
    for figure in figures:
        late = "" if figure.seconds <= figure.goal else "  late"
        print(f"{figure.name:<50}{figure.seconds:9.1f}{figure.goal:8.0f}{late}")
