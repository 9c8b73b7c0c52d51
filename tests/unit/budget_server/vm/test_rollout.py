"""Rollouts while callers keep calling, with real gunicorn and real Caddy, and whom the kernel may take.

`make bench-rollout` runs the first test with ten rollouts.
"""

import asyncio
import json
import math
import os
import ssl
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

ROLLOUTS = int(os.environ.get("BUDGET_TEST_ROLLOUTS", "3"))
RATE = 50.0
#: Callers in flight; a machine too slow for the rate is asked more slowly, and never flooded.
MOST_IN_FLIGHT = 200
UPLOAD = bytes(5_000_000)
SLICES = 20

HEADERS = {"Authorization": "Bearer static-token-of-the-user"}
BYTES = {"Content-Type": "application/octet-stream"}
HELPER = "LETTER = {letter!r}\n"
#: Whatever it answers, it says by what: its code, another module, its secrets, and the server's settings.
PREDICTOR = """
import asyncio, os
import helper
LETTER = {letter!r}
class Predictor:
    def load(self):
        server = os.environ["BUDGET_REVISION"][0]
        self.by = LETTER + helper.LETTER + os.environ["X"] + server
    async def predict(self, request):
        if not isinstance(request, dict):
            return {{"by": self.by, "bytes": len(await request.body())}}
        if request.payload.get("lines"):
            return self.lines(request.payload["lines"])
        await asyncio.sleep(request.payload.get("seconds", 0))
        return {{"by": self.by, "x": request.payload["x"]}}
    async def lines(self, count):
        for number in range(count):
            yield {{"by": self.by, "line": number}}
            await asyncio.sleep(0.1)
"""


@dataclass(frozen=True)
class Answer:
    """One request: when it began and ended, and which generation answered (or what went wrong)."""

    kind: str
    began: float
    ended: float
    by: str = ""
    problem: str = ""


@dataclass
class Load:
    """A steady load from a thread of its own: each kind of request by either protocol, none tried twice."""

    url: str
    authority: str
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._enough = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "some requests never ended"

    def second(self) -> Callable[[], bool]:
        """Whether from now on as many requests were answered as are sent in a second."""
        wanted = len(self.answers) + RATE
        return lambda: len(self.answers) >= wanted

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            h1, h2 = [await stack.enter_async_context(self._client(http2=new)) for new in (False, True)]
            under_way: set[asyncio.Task[None]] = set()
            began, number = time.monotonic(), 0
            while not self._enough.is_set():
                kind, send = KINDS[number % len(KINDS)]
                client, name = ((h1, "1.1"), (h2, "2"))[number // len(KINDS) % 2]
                task = asyncio.create_task(self._call(f"{kind} by HTTP/{name}", send, client))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                number += 1
                await asyncio.sleep(began + number / RATE - time.monotonic())
                if len(under_way) >= MOST_IN_FLIGHT:
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.gather(*under_way)

    def _client(self, *, http2: bool) -> httpx.AsyncClient:
        trusted = ssl.create_default_context(cadata=self.authority)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        return httpx.AsyncClient(
            base_url=self.url,
            headers=HEADERS,
            verify=trusted,
            http1=not http2,
            http2=http2,
            timeout=60,
            limits=limits,
        )

    async def _call(
        self, kind: str, send: Callable[[httpx.AsyncClient], Awaitable[str]], client: httpx.AsyncClient
    ) -> None:
        began = time.monotonic()
        by, problem = "", ""
        try:
            by = await send(client)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        self.answers.append(Answer(kind, began, time.monotonic(), by, problem))


async def _post(client: httpx.AsyncClient, path: str, **content: Any) -> dict[str, Any]:
    response = await client.post(path, **content)
    assert response.status_code == 200, f"{response.status_code} {response.text[:200]}"
    answer: dict[str, Any] = response.json()
    return answer


async def _short(client: httpx.AsyncClient) -> str:
    answer = await _post(client, "/predict_dict", json={"payload": {"x": "k" * 1000}})
    assert answer["x"] == "k" * 1000
    return str(answer["by"])


async def _long(client: httpx.AsyncClient) -> str:
    return str((await _post(client, "/predict_dict", json={"payload": {"x": 1, "seconds": 2}}))["by"])


async def _stream(client: httpx.AsyncClient) -> str:
    """Lines for three seconds; a mix of generations within would show as more than one."""
    asked = {"payload": {"lines": 30}}
    async with client.stream("POST", "/predict_dict", json=asked) as response:
        assert response.status_code == 200, response.status_code
        lines = [json.loads(line) async for line in response.aiter_lines() if line]
    assert [line["line"] for line in lines] == list(range(30)), "cut off"
    return "+".join({line["by"] for line in lines})


async def _upload(client: httpx.AsyncClient) -> str:
    answer = await _post(client, "/predict", content=UPLOAD, headers=BYTES)
    assert answer["bytes"] == len(UPLOAD)
    return str(answer["by"])


async def _slow_upload(client: httpx.AsyncClient) -> str:
    async def pieces() -> AsyncIterator[bytes]:
        size = len(UPLOAD) // SLICES
        for start in range(0, len(UPLOAD), size):
            yield UPLOAD[start : start + size]
            await asyncio.sleep(0.1)

    answer = await _post(client, "/predict", content=pieces(), headers=BYTES)
    assert answer["bytes"] == len(UPLOAD)
    return str(answer["by"])


async def _fresh(client: httpx.AsyncClient) -> str:
    """Over HTTP/1.1 the connection is closed by this; over HTTP/2 it is one more stream."""
    answer = await _post(client, "/predict_dict", json={"payload": {"x": 1}}, headers={"Connection": "close"})
    return str(answer["by"])


#: In a second at this rate: two turns of this list, one by each protocol.
KINDS: list[tuple[str, Callable[[httpx.AsyncClient], Awaitable[str]]]] = [
    ("upload", _upload),
    *[("short", _short)] * 5,
    ("stream", _stream),
    *[("fresh", _fresh)] * 4,
    ("slow upload", _slow_upload),
    *[("short", _short)] * 6,
    ("long", _long),
    *[("short", _short)] * 6,
]


def test_no_request_is_lost_or_mixed_under_load(world: Any, vm: Any, until: Callable[..., Any]) -> None:
    letters = "abcdef"
    publish(world, 0, letters[0])
    vm.boot()
    until(lambda: world.guest.get("ca"))
    world.await_state(active=revision(0, "a"))
    with Load(f"https://127.0.0.1:{vm.https}", world.guest["ca"]) as load:
        for number in range(1, ROLLOUTS + 1):
            until(load.second())
            target = publish(world, number, letters[number % len(letters)])
            world.await_state(active=target)
        until(load.second())
    told(load.answers, ROLLOUTS)
    assert [answer for answer in load.answers if answer.problem] == []
    assert {answer.by for answer in load.answers} == {letter * 4 for letter in letters[: ROLLOUTS + 1]}
    assert len({answer.kind for answer in load.answers}) == 12
    assert_never_back(load.answers, letters)


def test_with_memory_short_the_kernel_takes_the_one_that_loads(
    world: Any, vm: Any, until: Callable[..., Any]
) -> None:
    publish(world, 0, "a")
    vm.boot()
    world.await_state(active=revision(0, "a"))
    ours = score(os.getpid())
    [serving] = vm.children("gunicorn")
    until(lambda: set(scores(serving)) == {ours}, otherwise=lambda: str(scores(serving)))
    gate = vm.disk.parent / "gate"
    code = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)\n"
    target = publish(world, 1, "b", before=code)
    [loading] = until(lambda: [pid for pid in vm.children("gunicorn") if pid != serving])
    until(lambda: len(scores(loading)) >= 2, otherwise=lambda: "no worker")
    assert set(scores(loading)) == {1000}, "master and worker"
    assert set(scores(serving)) == {ours}
    gate.touch()
    world.await_state(active=target)
    until(lambda: set(scores(loading)) == {ours}, otherwise=lambda: str(scores(loading)))


def test_where_memory_does_not_hold_two_the_one_that_serves_ends_first(
    world: Any, vm: Any, until: Callable[..., Any]
) -> None:
    meminfo = vm.disk.parent / "meminfo"
    meminfo.write_text("MemAvailable: 5000 kB\n")
    vm.environ["BUDGET_MEMORY_INFO"] = str(meminfo)
    first = publish(world, 0, "a")
    vm.boot()
    with vm.client() as client:
        world.await_state(active=first)
        serving = vm.children("gunicorn")
        broken = publish(world, 1, "b", before="raise RuntimeError('no weights')\n")
        until(lambda: world.state["target"] == broken and world.state["phase"] == "serving")
        assert vm.predict(client).json()["by"] == "aaaa", "stands in again"
        assert world.state["failure"]["reason"] == "LoadFailed"
        assert world.state["recreated"] == broken
        second = publish(world, 2, "c")
        until(lambda: world.state["active"] == second)
        assert world.state["recreated"] == second
        assert vm.predict(client).json()["by"] == "cccc"
        assert vm.children("gunicorn") != serving
        meminfo.write_text("MemAvailable: 50000000 kB\n")
        third = publish(world, 3, "d")
        world.await_state(active=third)
        assert world.state["recreated"] == second, "not again"
    actives = [state["active"] for state in world.states]
    assert None in actives[actives.index(first) : actives.index(second)]
    assert None not in actives[actives.index(second) :]


def test_another_certificate_does_not_disturb_a_load(world: Any, vm: Any, until: Callable[..., Any]) -> None:
    gate, loads = vm.disk.parent / "gate", vm.disk.parent / "loads"
    loads.touch()
    loads.chmod(0o666)
    code = f"import pathlib, time\nopen({str(loads)!r}, 'a').write('x')\n"
    code += f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)\n"
    target = publish(world, 0, "a", before=code)
    vm.boot()
    until(loads.read_text)
    config = json.loads(world.attributes["budget-config"])
    world.set_attribute("budget-config", json.dumps(config | {"tls": {"mode": "Off"}}))
    until(lambda: json.loads(world.guest["certificate"])["mode"] == "Off")
    time.sleep(1)  # longer than a load looks at what is wanted
    gate.touch()
    world.await_state(active=target)
    assert loads.read_text() == "x"


def test_an_intent_that_comes_while_a_boot_loads_is_taken_afterwards(
    world: Any, vm: Any, until: Callable[..., Any]
) -> None:
    gate, loads = vm.disk.parent / "gate", vm.disk.parent / "loads"
    loads.touch()
    loads.chmod(0o666)
    code = f"import pathlib, time\nopen({str(loads)!r}, 'a').write('x')\n"
    code += f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)\n"
    gate.touch()
    target = publish(world, 0, "a", before=code)
    vm.boot()
    world.await_state(active=target)
    vm.shut_down()
    gate.unlink()
    world.states.clear()
    config = world.attributes.pop("budget-config")
    vm.boot()
    until(lambda: loads.read_text() == "xx")
    world.set_attribute("budget-config", config)
    time.sleep(4)  # longer than process 1 waits to ask for an entry that was not there
    gate.touch()
    world.await_state(active=target, target=target)
    assert loads.read_text() == "xx", "what was loading is what was wanted"


def test_the_spec_before_again_is_nothing_to_the_callers(
    world: Any, vm: Any, until: Callable[..., Any]
) -> None:
    old = publish(world, 0, "a")
    vm.boot()
    world.await_state(active=old)
    serving = vm.children("gunicorn")
    with vm.client() as client:
        broken = publish(world, 1, "b", before="raise RuntimeError('no weights')\n")
        until(lambda: world.state["target"] == broken and world.state["failure"])
        state = world.state
        assert (state["active"], state["phase"]) == (old, "serving")
        assert state["failure"]["log"].rstrip().endswith("RuntimeError: no weights")
        publish(world, 0, "a")
        state = until(lambda: world.state["target"] == old and world.state)
        assert (state["active"], state["phase"], state["failure"]) == (old, "serving", None)
        assert (
            client.post("/predict_dict", json={"payload": {"x": 1}}, headers=HEADERS).json()["by"] == "aaaa"
        )
    assert vm.children("gunicorn") == serving, "the same processes, and nobody else"


def publish(world: Any, number: int, letter: str, before: str = "") -> str:
    """The revision that answers with this letter in all its parts."""
    code = {
        "predictor.py": before + PREDICTOR.format(letter=letter),
        "helper.py": HELPER.format(letter=letter),
    }
    readiness = {"payload": {"x": 1}, "startupSeconds": 60}
    server = {"workers": 1, "threads": 4, "maxConcurrency": 500, "maxQueue": 500}
    manifest = {"readiness": readiness, "server": server}
    world.publish(revision(number, letter), code, manifest, env={"X": letter})
    return revision(number, letter)


def revision(number: int, letter: str) -> str:
    return f"{letter}{number:011d}"


def assert_never_back(answers: list[Answer], letters: str) -> None:
    """Nobody who asks after the new generation has answered is answered by an older one."""
    switches: list[float] = []
    for answer in sorted(answers, key=lambda each: each.ended):
        if answer.by[0] == letters[(len(switches) + 1) % len(letters)]:
            switches.append(answer.ended)
    assert len(switches) == ROLLOUTS
    for number, (switch, following) in enumerate(pairwise([*switches, math.inf]), 1):
        asked = {answer.by for answer in answers if switch < answer.began and answer.ended < following}
        assert asked == {letters[number % len(letters)] * 4}, f"after switch {number}"


def told(answers: list[Answer], rollouts: int) -> None:
    begun = [each.began for each in answers]
    rate = len(answers) / (max(begun) - min(begun))
    lasted = sorted(each.ended - each.began for each in answers if each.kind.startswith("short"))
    print(f"{len(answers)} requests, {rate:.0f} a second, {rollouts} rollouts,", end=" ")
    print(f"{sum(bool(each.problem) for each in answers)} lost;", end=" ")
    print(f"short ones {lasted[len(lasted) // 2]:.3f} s, at most {lasted[-1]:.3f} s")
    for kind, count in sorted(Counter(each.kind for each in answers).items()):
        print(f"  {kind}: {count}")


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def scores(session: int) -> list[int]:
    """Of all processes of the session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(score(int(path.parent.name)))
        except OSError:
            continue
    return found
