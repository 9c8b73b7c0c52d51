"""`budget-operator preflight` in a project that the guide's own commands have set up with the real gcloud.

Whatever is taken away shows as exactly one line, and the command in it, run as it stands, brings it back.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from budget_operator.core.names import Shared
from budget_operator.core.ownership import Claim
from budget_operator.main import app
from dev import plain
from dev.conformance.clients import Gcloud, gcloud_environment, warm_gcloud_environment
from dev.conformance.server import Cloud
from dev.environment import BUCKET as LOCAL_BUCKET
from dev.paths import ROOT
from localcloud.accounts import new_key
from localcloud.ports import free_port
from tests.simulation.roles import GIVEN, ROLES
from tests.unit.docs.test_iam import SCRIPT

pytestmark = pytest.mark.skipif(not Gcloud.is_here(), reason="gcloud is not installed")

PROJECT, BUCKET = "my-project", "my-project-budgetml"
SECONDS = 300


def email(who: str) -> str:
    return f"budgetml-{who}@{PROJECT}.iam.gserviceaccount.com"


OPERATOR = f"--operator-account={email('operator')}"


def ran(command: list[str], environment: Mapping[str, str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS, **more
    )


@dataclass
class Installation:
    """A project as the guide leaves it, and an engineer who may do everything in it."""

    cloud: Cloud
    home: Path
    gcloud: Mapping[str, str]
    settings: dict[str, str] = field(default_factory=dict)

    def set_up(self) -> None:
        script = SCRIPT.replace("PROJECT=…  BUCKET=…", f"PROJECT={PROJECT} BUCKET={BUCKET}")
        done = ran(["bash", "-euo", "pipefail", "-c", script], self.gcloud, cwd=ROLES)
        assert done.returncode == 0, done.stderr
        self.settings = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **exports(),
            "BUDGET_API_ENDPOINT": self.cloud.url,
            "GOOGLE_APPLICATION_CREDENTIALS": self.key(f"engineer@{PROJECT}.iam.gserviceaccount.com"),
        }

    def key(self, account: str) -> str:
        path = self.home / f"{account}.json"
        path.write_text(json.dumps(new_key(account, self.cloud.url)))
        return str(path)

    def look(self, *options: str, **settings: str) -> tuple[int, list[dict[str, str]]]:
        """The exit code, and every line."""
        command = ["preflight", "--output=json", *options]
        done = CliRunner().invoke(app, command, env=self.settings | settings)
        assert isinstance(done.exception, SystemExit | None), done.exception
        return done.exit_code, json.loads(done.stdout)["findings"]

    def trouble(self, **settings: str) -> list[dict[str, str]]:
        """The lines that are not ok; the exit code says the same."""
        code, findings = self.look(OPERATOR, **settings)
        verdicts = {each["verdict"] for each in findings}
        assert code == (1 if "MISSING" in verdicts else 2 if "unknown" in verdicts else 0)
        return [each for each in findings if each["verdict"] != "ok"]

    def mend(self, command: str) -> dict[str, str]:
        """Run it, as a person would; gives what it has set in the shell."""
        if command.startswith("export "):
            return dict(word.split("=", 1) for word in shlex.split(command)[1:])
        done = ran(["bash", "-euo", "pipefail", "-c", command], self.gcloud)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return {}

    def post(self, path: str, body: Any = None) -> Any:
        answer = plain.post(f"{self.cloud.url}{path}", json=body or {})
        answer.raise_for_status()
        return answer.json()

    def bindings(self, resource: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
        """Change a policy behind gcloud's back."""
        policy = self.post(f"/v1/{resource}:getIamPolicy", {"options": {"requestedPolicyVersion": 3}})
        change(policy.setdefault("bindings", []))
        self.post(f"/v1/{resource}:setIamPolicy", {"policy": policy})


def exports() -> dict[str, str]:
    """The settings that the guide exports before it checks."""
    guide = (ROOT / "docs" / "gcp.md").read_text(encoding="utf-8")
    lines = re.findall(r"^export (.*)$", guide, re.MULTILINE)
    script = "\n".join([*(f"export {line}" for line in lines), "env"])
    done = ran(["bash", "-c", script], {"PATH": os.environ["PATH"]})
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("BUDGET_"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("preflight")
    running = Cloud(home / "cloud", free_port())
    running.start()
    own = os.environ | gcloud_environment(running.url, PROJECT, home / "gcloud")
    try:
        with warm_gcloud_environment(own) as gcloud:
            installation = Installation(running, home, gcloud)
            installation.set_up()
            yield installation
    finally:
        running.stop()
    assert running.problems() == [], "an answer is not as Google describes it"


def test_all_is_well_as_the_guide_leaves_it(made: Installation) -> None:
    code, findings = made.look(OPERATOR)
    assert [each for each in findings if each["verdict"] != "ok"] == []
    assert code == 0
    subjects = {each["subject"] for each in findings}
    assert subjects == {
        *("settings", "credentials", "APIs", "operator", *GIVEN),
        *("zone", "quota", "bucket", "owner"),
    }


def test_people_get_a_line_each(made: Installation) -> None:
    command = [sys.executable, "-m", "budget_operator.main", "preflight", OPERATOR]
    done = ran(command, made.settings)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("ok ") for line in done.stdout.splitlines())


def without(role: str) -> Callable[[list[dict[str, Any]]], object]:
    def change(bindings: list[dict[str, Any]]) -> None:
        bindings[:] = [each for each in bindings if not each["role"].endswith(f"/budgetml_{role}")]

    return change


def unconditionally(role: str) -> Callable[[list[dict[str, Any]]], object]:
    def change(bindings: list[dict[str, Any]]) -> None:
        for binding in bindings:
            if binding["role"].endswith(f"/budgetml_{role}"):
                del binding["condition"]

    return change


def editor(who: str) -> Callable[[list[dict[str, Any]]], object]:
    return lambda bindings: bindings.append(
        {"role": "roles/editor", "members": [f"serviceAccount:{email(who)}"]}
    )


def less(made: Installation, role: str) -> None:
    path = f"{made.cloud.url}/v1/projects/{PROJECT}/roles/budgetml_{role}"
    listed = plain.get(path).json()["includedPermissions"]
    plain.patch(
        path, params={"updateMask": "includedPermissions"}, json={"includedPermissions": listed[1:]}
    ).raise_for_status()


def delete(made: Installation, path: str) -> None:
    plain.delete(f"{made.cloud.url}/v1/projects/{PROJECT}/{path}").raise_for_status()


IN_PROJECT = f"projects/{PROJECT}"
Taking = Callable[[Installation], object]


def in_project(change: Callable[[list[dict[str, Any]]], object]) -> Taking:
    return lambda made: made.bindings(IN_PROJECT, change)


TAKEN: dict[str, tuple[Taking, str, str]] = {
    "an API": (
        lambda made: made.post(f"/v1/{IN_PROJECT}/services/eventarc.googleapis.com:disable"),
        "APIs",
        "not enabled: eventarc.googleapis.com",
    ),
    "a role": (lambda made: delete(made, "roles/budgetml_function_run"), "function-run", "was deleted"),
    "a permission of a role": (lambda made: less(made, "operator"), "operator", "does not list"),
    **{
        f"the grant of {role}": (
            in_project(without(role)),
            who,
            f"does not have budgetml_{role}",
        )
        for who, role in {
            "operator": "operator_bucket",
            "vm": "vm_state",
            "function-build": "function_build",
            "trigger": "trigger",
        }.items()
    },
    **{
        f"the condition of {role}": (
            in_project(unconditionally(role)),
            who,
            "beyond what it is for",
        )
        for who, role in {"operator": "operator_bucket", "vm": "vm_code"}.items()
    },
    "the right to act as the VM": (
        lambda made: made.bindings(
            f"{IN_PROJECT}/serviceAccounts/{email('vm')}", without("operator_accounts")
        ),
        "operator",
        f"does not have budgetml_operator_accounts on {email('vm')}",
    ),
    "restraint": (in_project(editor("trigger")), "trigger", "roles/editor"),
}


@pytest.mark.parametrize("what", TAKEN)
def test_what_is_taken_away_is_one_line_whose_command_brings_it_back(made: Installation, what: str) -> None:
    take, subject, said = TAKEN[what]
    take(made)
    (line,) = made.trouble()
    assert line["subject"] == subject
    assert said in line["text"]
    assert line["verdict"] == ("WARN" if what == "restraint" else "MISSING")
    made.mend(line["mend"])
    assert made.trouble() == []


def test_an_account_that_is_made_anew_gets_its_roles_next(made: Installation) -> None:
    delete(made, f"serviceAccounts/{email('trigger')}")
    (line,) = made.trouble()
    assert (line["subject"], line["text"]) == ("trigger", f"there is no account {email('trigger')}")
    made.mend(line["mend"])
    roles = made.trouble()
    assert {each["subject"] for each in roles} == {"operator", "trigger"}
    assert all("does not have" in each["text"] for each in roles)
    for each in roles:
        made.mend(each["mend"])
    assert made.trouble() == []


@pytest.fixture
def bucket(made: Installation) -> Iterator[Callable[..., None]]:
    """Makes the bucket, with other fields than the operator gives it."""

    def make(**fields: Any) -> None:
        access = {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"}
        ours = {
            "name": BUCKET,
            "location": "US-CENTRAL1",
            "labels": Shared("default").labels,
            "iamConfiguration": access,
        }
        answer = plain.post(f"{made.cloud.url}/storage/v1/b", params={"project": PROJECT}, json=ours | fields)
        answer.raise_for_status()

    yield make
    plain.delete(f"{made.cloud.url}/storage/v1/b/{BUCKET}/o/owner")
    plain.delete(f"{made.cloud.url}/storage/v1/b/{BUCKET}").raise_for_status()


@pytest.mark.parametrize(
    ("fields", "verdict", "said"),
    [
        ({"labels": {"team": "x"}}, "MISSING", "without the label"),
        ({"iamConfiguration": {"publicAccessPrevention": "enforced",
                               "uniformBucketLevelAccess": {"enabled": False}}}, "MISSING", "access lists"),
        ({"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}, "WARN", "made public"),
    ],
)  # fmt: skip
def test_a_bucket_that_is_not_as_the_operator_makes_it(
    made: Installation, bucket: Callable[..., None], fields: dict[str, Any], verdict: str, said: str
) -> None:
    bucket(**fields)
    (line,) = made.trouble()
    assert (line["verdict"], line["subject"]) == (verdict, "bucket")
    assert said in line["text"]
    assert made.trouble(**made.mend(line["mend"])) == []


def test_the_owner_is_shown(made: Installation, bucket: Callable[..., None]) -> None:
    bucket()
    now = datetime.now(UTC)
    upload = f"{made.cloud.url}/upload/storage/v1/b/{BUCKET}/o"
    claim = Claim("a-cluster", now, now).document()
    plain.post(upload, params={"uploadType": "media", "name": "owner"}, content=claim).raise_for_status()
    _, findings = made.look(OPERATOR)
    (line,) = [each["text"] for each in findings if each["subject"] == "owner"]
    assert line == "cluster a-cluster, last heard of 0 min ago"


def test_a_zone_that_there_is_not(made: Installation) -> None:
    (line,) = made.trouble(BUDGET_ZONES="us-central1-a,us-central1-z")
    assert line["text"] == "there is no zone us-central1-z"
    assert made.trouble(**made.mend(line["mend"])) == []


def test_a_quota_that_is_used_up(made: Installation, spot_body: Callable[..., dict[str, Any]]) -> None:
    machines = f"{made.cloud.url}/compute/v1/projects/{PROJECT}/zones/us-central1-a/instances"
    plain.post(machines, json=spot_body()).raise_for_status()
    quota = {"kind": "quota", "region": "us-central1", "metric": "PREEMPTIBLE_CPUS", "limit": 3}
    with made.cloud.fault(**quota):
        (line,) = made.trouble()
    assert line["text"] == "PREEMPTIBLE_CPUS: 2 of 3 used, one more deployment takes 2"
    command, *options = line["mend"].split(" --")
    assert options[-1] == "preferred-value=4"
    told = ran([*command.split(), "--help"], os.environ | {"PAGER": "cat"}).stdout
    assert all(f"--{option.partition('=')[0]}" in told for option in options)
    assert made.trouble() == []
    plain.delete(f"{machines}/vm1").raise_for_status()


# --- who looks ---


def test_the_operator_itself_sees_what_it_may_do_and_not_what_others_may(made: Installation) -> None:
    key = made.key(email("operator"))
    code, findings = made.look(GOOGLE_APPLICATION_CREDENTIALS=key)
    assert code == 2
    own = [
        each["verdict"] for each in findings if each["subject"] == "operator" and "bucket" not in each["text"]
    ]
    assert set(own) == {"ok"}
    known = {each["subject"] for each in findings if each["verdict"] == "ok"}
    assert {"zone", "credentials"} <= known
    hidden = {each["subject"]: each["text"] for each in findings if each["verdict"] == "unknown"}
    assert {"APIs", "vm", "quota"} <= hidden.keys()
    assert "compute.regions.get" in hidden["quota"]
    assert not any("mend" in each for each in hidden.values())


def test_an_operator_that_lacks_a_permission_says_so_itself(made: Installation) -> None:
    key = made.key(email("operator"))
    less(made, "operator")
    _, findings = made.look(GOOGLE_APPLICATION_CREDENTIALS=key)
    (line,) = [each for each in findings if each["verdict"] == "MISSING"]
    made.mend(line["mend"])
    _, findings = made.look(GOOGLE_APPLICATION_CREDENTIALS=key)
    assert [each for each in findings if each["verdict"] == "MISSING"] == []


def test_who_may_see_nothing_is_told_which_permissions_that_takes(made: Installation) -> None:
    made.post(f"/v1/{IN_PROJECT}/serviceAccounts", {"accountId": "stranger"})
    key = made.key(f"stranger@{PROJECT}.iam.gserviceaccount.com")
    code, findings = made.look(OPERATOR, GOOGLE_APPLICATION_CREDENTIALS=key)
    assert code == 2
    assert {each["subject"] for each in findings if each["verdict"] == "ok"} == {"settings", "credentials"}
    said = " ".join(each["text"] for each in findings)
    for permission in (
        "serviceusage.services.get",
        "resourcemanager.projects.getIamPolicy",
        "iam.serviceAccounts.get",
        "compute.zones.get",
        "compute.regions.get",
        "storage.buckets.get",
        "storage.objects.get",
    ):
        assert permission in said
    delete(made, f"serviceAccounts/stranger@{PROJECT}.iam.gserviceaccount.com")


def test_the_stack_on_this_machine_has_no_accounts_and_nothing_missing(made: Installation) -> None:
    accounts = {name: "" for name in made.settings if name.endswith("_SERVICE_ACCOUNT")}
    code, findings = made.look(
        BUDGET_CREDENTIALS="anonymous", BUDGET_BUCKET=LOCAL_BUCKET, BUDGET_PROJECT="local-project", **accounts
    )
    assert code == 0
    assert {each["subject"] for each in findings if each["verdict"] == "WARN"} == set(GIVEN)
    assert {each["verdict"] for each in findings} == {"ok", "WARN"}


# --- what cannot be looked at ---


def test_an_api_that_the_check_itself_needs(made: Installation) -> None:
    made.post(f"/v1/{IN_PROJECT}/services/cloudresourcemanager.googleapis.com:disable")
    lines = made.trouble()
    assert [each["subject"] for each in lines if each["verdict"] == "MISSING"] == ["APIs"]
    assert any("cloudresourcemanager.googleapis.com is not enabled" in each["text"] for each in lines)
    made.mend(lines[0]["mend"])
    assert made.trouble() == []


def test_nobody_who_answers_is_a_sentence(made: Installation) -> None:
    silent = f"http://127.0.0.1:{free_port()}"
    code, findings = made.look(OPERATOR, BUDGET_API_ENDPOINT=silent)
    assert code == 2
    assert [(each["verdict"], each["subject"]) for each in findings[2:]] == [("unknown", "Google")]


def test_credentials_that_are_not_accepted_and_none_at_all(made: Installation) -> None:
    with made.cloud.fault(kind="call", path="^/token$", code=400, reason="invalid_grant", count=0):
        code, findings = made.look(OPERATOR)
    assert (code, findings[-1]["verdict"], findings[-1]["subject"]) == (2, "unknown", "credentials")
    assert findings[-1]["mend"] == "gcloud auth application-default login"
    code, findings = made.look(OPERATOR, GOOGLE_APPLICATION_CREDENTIALS="/none.json")
    assert (code, findings[-1]["verdict"], findings[-1]["subject"]) == (1, "MISSING", "credentials")


def test_settings_that_are_wrong_are_a_line_each(made: Installation) -> None:
    code, findings = made.look(BUDGET_PROJECT="", BUDGET_ZONES="here")
    assert code == 1
    assert [each["mend"] for each in findings] == [
        "export BUDGET_PROJECT=my-project",
        "export BUDGET_ZONES=us-central1-a,us-central1-b",
    ]
