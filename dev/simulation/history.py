"""One history of a small installation: what users, Google, strangers and bad luck do, step by step.

Whoever plays it chooses the steps; after each of them the invariants are checked, and at the end everything
must come right by itself.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from budget_operator.core.api import DRILL, Machine
from budget_operator.core.drill import UNDER_WAY
from dev.conformance import bodies
from dev.simulation import invariants
from dev.simulation.apiserver import CODE
from dev.simulation.trouble import Kind, Trouble
from dev.simulation.watch import Watch
from dev.simulation.world import NAMESPACE, PROJECT, ZONES, vm, world
from localcloud.errors import ApiError
from localcloud.faults import parse
from localcloud.jumping import JumpingClock
from localcloud.mounted import Answer
from localcloud.services.compute.records import INSTANCE
from localcloud.store import Json

NAMES = ("alpha", "beta")
FOREIGN = "gamma"
"""Of the deployment whose VM's name a stranger may have taken."""
RECOVERY = 3 * 3600.0
"""Seconds in which everything comes right, the longest pauses included."""
REMOVAL = 3600.0
SETTLED = 150.0
"""Seconds after which a change must have been seen, and a tick must have come."""
BLINDING = ("call", "disabled-api compute", "permission-denied compute", "rate-limit", "silent-zone")
"""What hides the VMs from the operator."""

DETAILED = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
FAULTS: tuple[Json, ...] = (
    {"kind": "stock-out", "zone": ZONES[0]},
    {"kind": "stock-out", "zone": ZONES[0], "when": "request", "code": DETAILED},
    {"kind": "stock-out", "zone": ZONES[1]},
    {"kind": "quota", "region": "us-central1"},
    {"kind": "rate-limit", "service": "compute", "calls": "write", "perMinute": 2},
    {"kind": "rate-limit", "service": "compute", "calls": "read", "perMinute": 10},
    {"kind": "call", "path": "/compute/", "count": 7},
    {"kind": "call", "path": "/storage/|/topics|/jobs|/functions", "count": 5, "code": 500},
    {"kind": "disabled-api", "service": "cloudfunctions"},
    {"kind": "disabled-api", "service": "compute"},
    {"kind": "fresh-api", "service": "cloudscheduler", "seconds": 300},
    {"kind": "permission-denied", "permission": "compute.instances.*"},
    {"kind": "permission-denied", "permission": "storage.*"},
    {"kind": "silent-zone", "zone": ZONES[0]},
    {"kind": "silent-zone", "zone": ZONES[1]},
    {"kind": "slow-boot", "seconds": 400},
    {"kind": "broken-model"},
    {"kind": "duplicates"},
    {"kind": "disorder", "seconds": 45},
    {"kind": "refused-field", "field": "scheduling.preemptionNoticeDuration"},
)  # fmt: skip
SPECS: tuple[Json, ...] = (
    {"predictor": {"inline": CODE}},
    {"predictor": {"inline": f"{CODE}# another\n"}, "readiness": {"payload": {"text": "hi"}}},
    {"predictor": {"inline": CODE}, "machine": {"type": "e2-small"}},
    {"predictor": {"inline": f"{CODE}# third\n"}, "machine": {"type": "e2-standard-2"}},
    {"predictor": {"inline": f"{CODE}# fifth\n"}, "suspend": True},
    {"predictor": {"inline": CODE}, "machine": {"provisioning": "Standard"}},
    {"predictor": {"inline": CODE}, "placement": {"zones": [ZONES[1]]}},
)


class History:
    """Use as a context manager; a step is a method with the name of an action."""

    def __init__(self) -> None:
        self._clock = JumpingClock()
        self.trouble = Trouble(self._clock, rival=self._rival)
        self._stack = ExitStack()
        self.wanted: dict[str, Json] = {}
        self.strangers: dict[str, Json] = {}
        self.fault: str | None = None
        self.farewell: tuple[Kind, str] | None = None
        """What befalls the deletions at the end, and which of their calls."""
        self.drills: dict[str, int] = {}
        """The newest call in the cloud's journal when each was asked for."""
        self.steps = 0
        self.kept_disks: set[str] = set()
        """Of VMs that somebody deleted without their disk."""
        self.met: Counter[tuple[str, str]] = Counter()
        """How often each action met each fault."""

    def __enter__(self) -> "History":
        made = world(self.trouble.carry, clock=self._clock, kept=1000)
        self.world = self._stack.enter_context(made)
        self.world.kube.journal.fault = self.trouble.kubernetes
        self._watch = Watch(self.world)
        return self

    def __exit__(self, *problem: object) -> None:
        self._stack.close()

    # -- users

    def apply(self, name: str, spec: Json) -> None:
        """A disk stays as large as it is: the API server refuses a smaller one."""
        if not self._is_going(name):
            self._apply(name, spec, self._disk_gib(name))

    def grow_disk(self, name: str) -> None:
        if name in self.wanted:
            self._apply(name, self.wanted[name], self._disk_gib(name) + 10)

    def _apply(self, name: str, spec: Json, disk_gib: int) -> None:
        self.wanted[name] = spec | {"machine": spec.get("machine", {}) | {"diskGiB": disk_gib}}
        self.world.apply(name, self.wanted[name])

    def _disk_gib(self, name: str) -> int:
        found: int = self.wanted.get(name, {}).get("machine", {}).get("diskGiB", Machine().disk_gib)
        return found

    def delete(self, name: str) -> None:
        if self.wanted.pop(name, None) is not None:
            self.world.delete(name)

    def rotate_login(self, name: str) -> None:
        secret = self.world.kube.secrets.get((NAMESPACE, f"{name}-login"))
        if secret is not None and not self._is_going(name):
            secret["password"] = f"rotated-{self.steps}".encode()
            self.world.look_again()

    def drill(self, name: str) -> None:
        """Its owner wants to see how it comes back, once it is known how the last time ended."""
        found = self.world.kube.objects.get((NAMESPACE, name))
        if found is None or self._is_going(name):
            return
        asked = found["metadata"].get("annotations", {}).get(DRILL)
        told = found.get("status", {}).get("drill") or {}
        if asked != told.get("value") or told.get("state") in UNDER_WAY:
            return
        last = self.world.cloud.context.journal.entries(limit=1)
        self.drills[name] = last[0].id if last else 0
        self.world.kube.annotate(name, DRILL, str(self.steps))
        self.world.heard(name)

    # -- Google

    def preempt(self, name: str) -> None:
        if any(vm(name) in key for key in self.strangers):
            return
        with suppress(ApiError):  # where nothing runs
            self.world.preempt(name)

    def begin_fault(self, fault: Json) -> None:
        self.end_faults()
        self.world.cloud.context.faults.add(parse(fault), self.world.clock.now())
        whose = next((fault[field] for field in ("service", "zone", "permission") if field in fault), "")
        self.fault = f"{fault['kind']} {whose}".strip()
        self.world.look_again()

    def end_faults(self) -> None:
        self.world.cloud.context.faults.clear()
        self.fault = None
        self.world.look_again()

    # -- hands in the project

    def by_hand(self, verb: str, name: str) -> None:
        """Somebody with gcloud does something to a deployment's VM, address, labels or code; while it moves,
        to one of the two."""
        found = [key for key, doc in self.world.store.list(INSTANCE) if doc["body"]["name"] == vm(name)]
        if not found or found[0] in self.strangers:
            return
        chosen = found[self.steps % len(found)]
        path, body = f"/compute/v1/{chosen}", self.world.store.get(INSTANCE, chosen)
        assert body is not None
        if verb == "spoil":
            self._spoil(name)
        elif verb == "delete":
            self.ask("DELETE", path)
        elif verb == "delete, keep disk":
            self._keep_disk(path, body["body"])
            self.ask("DELETE", path)
        elif verb == "untag":
            self.ask("POST", f"{path}/setTags", {"fingerprint": body["body"]["tags"]["fingerprint"]})
        elif verb in ("take address", "swap address"):
            self._take_address(path, body["body"], swap=verb == "swap address")
        elif verb == "relabel":
            labels = body["body"].get("labels", {}) | {"budgetml-wanted": "no"}
            changed = {"labels": labels, "labelFingerprint": body["body"]["labelFingerprint"]}
            self.ask("POST", f"{path}/setLabels", changed)
        elif verb == "rewrite":
            metadata = body["body"]["metadata"]
            items = [item for item in metadata.get("items", ()) if item["key"] != "budget-config"]
            self.ask("POST", f"{path}/setMetadata", metadata | {"items": items})
        else:
            self.ask("POST", f"{path}/{verb}")

    def _keep_disk(self, path: str, instance: Json) -> None:
        device = instance["disks"][0]["deviceName"]
        if self.ask("POST", f"{path}/setDiskAutoDelete?autoDelete=false&deviceName={device}").status == 200:
            self.kept_disks.add(invariants.last(instance["disks"][0]["source"]))

    def _take_address(self, path: str, instance: Json, *, swap: bool) -> None:
        """`swap`: for one that Google chooses."""
        interface = instance["networkInterfaces"][0]
        for access in interface.get("accessConfigs", ()):
            where = f"networkInterface={interface['name']}"
            named = f"accessConfig={access['name'].replace(' ', '%20')}"
            self.ask("POST", f"{path}/deleteAccessConfig?{where}&{named}")
            if swap:
                self.ask("POST", f"{path}/addAccessConfig?{where}", {"type": "ONE_TO_ONE_NAT"})

    def edit_shared(self, part: str) -> None:
        """Somebody changes a part of what all share, so that it does not do its work any more."""
        for key, document in self.world.store.list(part):
            if part == invariants.FIREWALL:
                self.ask("PATCH", f"/compute/v1/{key}", {"disabled": True})
            else:
                target = document["pubsubTarget"] | {"data": invariants.TAMPERED}
                self.ask("PATCH", f"/v1/{key}?updateMask=pubsubTarget", {"pubsubTarget": target})
        self.world.look_again()

    def _spoil(self, name: str) -> None:
        """One of its objects is deleted, or gets the content of another one."""
        found = [key for key, _ in self.world.store.list(invariants.OBJECT) if f"/code/{vm(name)}/" in key]
        if not found:
            return
        chosen, other = (_object(found[(self.steps + beside) % len(found)]) for beside in (0, 1))
        if self.steps // 2 % 2:
            self.ask("DELETE", f"/storage/v1{chosen}")
        else:
            self.ask("POST", f"/storage/v1{other}/copyTo{chosen}", {})

    def break_keep_alive(self, part: str) -> None:
        """Somebody deletes a part of it."""
        versions = {invariants.FUNCTION: "v2", invariants.FIREWALL: "compute/v1"}
        for key, _ in self.world.store.list(part):
            self.ask("DELETE", f"/{versions.get(part, 'v1')}/{key}")
        self.world.look_again()

    def stranger(self) -> None:
        """Somebody makes a VM with the name that ours would have."""
        if self.world.store.list(INSTANCE) and any(
            doc["body"]["name"] == vm(FOREIGN) for _, doc in self.world.store.list(INSTANCE)
        ):
            return
        body = bodies.spot_instance(vm(FOREIGN)) | {"labels": {}}
        key = f"projects/{PROJECT}/zones/{ZONES[0]}/instances/{vm(FOREIGN)}"
        if self.ask("POST", f"/compute/v1/{key.rpartition('/')[0]}", body).status == 200:
            self.world.clock.sleep(30)
            found = self.world.store.get(INSTANCE, key)
            if found is not None:
                self.strangers[key] = found

    # -- the operator

    def plan_trouble(self, kind: Kind, after: int = 0, call: str = "") -> None:
        self.trouble.plan(kind, after, call)

    def restart(self) -> None:
        self.world.restart()

    def switch_off(self) -> None:
        self.world.operator = None

    def run_both(self, seconds: float) -> None:
        """By mistake another operator is active for a while, too."""
        self.world.run_both(seconds)

    def set_clock(self, hours: float) -> None:
        """The operator's machine has the wrong time."""
        self.world.clock_error = timedelta(hours=hours)

    # -- time

    def wait(self, seconds: float) -> None:
        self._pass_time(seconds)

    def run(self, action: str, seconds: float) -> None:
        """Let time pass after an action, and check."""
        self.steps += 1
        before = self.trouble.struck.total()
        self._pass_time(seconds)
        self.met[action, self.fault or "-"] += 1
        if self.trouble.struck.total() > before:
            self.met[action, str(next(reversed(self.trouble.struck))[0])] += 1
        self._must(self._wrong())
        if seconds >= SETTLED:
            self._must(list(self._after_a_while()))

    def _wrong(self) -> list[str]:
        names = (*NAMES, FOREIGN)
        return [
            *self._watch.wrong,
            *invariants.always(self.world, names, self.strangers, self.kept_disks),
            *invariants.drilled(self.world, self.drills),
        ]

    def _after_a_while(self) -> Iterator[str]:
        """What must be true once time has passed without a step, as long as the cloud can be seen."""
        if not self.world.active and self.fault is None and self._is_armed():
            yield from invariants.kept_alive(self.world)
        if self.world.active and not (self.fault or "").startswith(BLINDING):
            yield from invariants.honest(self.world, (*NAMES, FOREIGN))

    def _is_armed(self) -> bool:
        return all(self.world.store.list(part) for part in invariants.SHARED)

    def come_right(self) -> None:
        """All troubles end. Everything wanted serves, nothing else is there; deleted, whatever befalls that,
        nothing is left."""
        self.end_faults()
        self.trouble.clear()
        self.world.run_both(0)
        if self.world.operator is None:
            self.world.restart()
        self._pass_time(RECOVERY)
        self._must(invariants.calm(self.world, self.wanted, self._taken()))
        for name in list(self.wanted):
            self.delete(name)
        if self.farewell is not None:
            kind, call = self.farewell
            self.trouble.plan(kind, call=call)
        self._pass_time(REMOVAL)
        self._must(invariants.calm(self.world, {}, frozenset()))
        self._must(self._wrong())
        if self.world.kube.objects:
            raise AssertionError(f"deletion does not end: {list(self.world.kube.objects)}")

    def _taken(self) -> frozenset[str]:
        """Whose VM cannot be made, since a stranger has its name in one of the zones."""
        spec = self.wanted.get(FOREIGN)
        if spec is None or spec.get("suspend"):
            return frozenset()
        zones = spec.get("placement", {}).get("zones", ZONES)
        is_taken = any(f"/zones/{zone}/" in key for key in self.strangers for zone in zones)
        found = {key for key, doc in self.world.store.list(INSTANCE) if doc["body"]["name"] == vm(FOREIGN)}
        return frozenset({FOREIGN} if is_taken and not found - self.strangers.keys() else ())

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """A call that is nobody's of ours."""
        base = self.world.cloud.context.settings.base_url
        content = b"" if body is None else json.dumps(body).encode()
        return self.world.cloud.answer(method, f"{base}{path}", {"content-type": "application/json"}, content)

    def _rival(self) -> None:
        """By mistake another operator is active, too, and passes over everything at the worst moment."""
        rival = self.world.rival
        if rival is not None:
            for key in self.world.passes.keys:
                rival.reconcile(*key)

    def _pass_time(self, seconds: float) -> None:
        self.world.kube.collect_garbage()
        self.world.run(seconds)

    def _is_going(self, name: str) -> bool:
        found = self.world.kube.objects.get((NAMESPACE, name))
        return found is not None and "deletionTimestamp" in found["metadata"]

    def _must(self, problems: list[str]) -> None:
        if problems:
            raise AssertionError("; ".join(problems))


def _object(key: str) -> str:
    """The path of an object: bucket and name."""
    bucket, _, name = key.partition("/")
    return f"/b/{bucket}/o/{quote(name, safe='')}"
