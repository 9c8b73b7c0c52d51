"""What preflight says of facts: every check both ways, and never `ok` of what could not be read."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from budget_operator.core.names import Shared
from budget_operator.core.observed import Stored
from budget_operator.core.ownership import Claim
from budget_operator.core.preflight import access, bucket, mends, needs, region
from budget_operator.core.preflight.accounts import Accounts
from budget_operator.core.preflight.facts import (
    Account,
    Bucket,
    Caller,
    Condition,
    Facts,
    Grant,
    Own,
    Quota,
    Region,
    Role,
    Unread,
    Zone,
)
from budget_operator.core.preflight.findings import (
    Finding,
    Verdict,
    as_json,
    as_text,
    exit_code,
    missing,
    ok,
    unknown,
    warn,
)
from budget_operator.core.preflight.grants import applies, held, member
from budget_operator.core.preflight.needs import NEEDS, Place, RoleFile
from budget_operator.core.settings import Settings
from dev.paths import ROOT

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
PROJECT, BUCKET = "p1", "p1-budgetml"
NAME = f"projects/_/buckets/{BUCKET}"
FILES = {
    need.role: RoleFile(need.role, frozenset({f"a.{need.role}.get", f"a.{need.role}.list"})) for need in NEEDS
}
NO_READ = Unread("the caller lacks a.b.c")


def email(who: str) -> str:
    return needs.default_email(PROJECT, who)


SETTINGS = Settings(
    project=PROJECT,
    zones=("us-central1-a", "us-central1-b"),
    bucket=BUCKET,
    image="registry/server:1",
    vm_service_account=email("vm"),
    function_service_account=email("function-run"),
    build_service_account=email("function-build"),
    trigger_service_account=email("trigger"),
)


def granted(who: str, role: str, place: Place = Place.PROJECT) -> Grant:
    expression = needs.condition(place, BUCKET)
    condition = Condition("t", expression) if expression else None
    return Grant(member(email(who)), needs.role_name(PROJECT, role), condition)


POLICY = tuple(granted(need.who, need.role, need.place) for need in NEEDS if need.place is not Place.ACCOUNTS)
ACTS = (granted("operator", "operator-accounts"),)
ALL_WELL = Facts(
    caller=Caller("user"),
    services=dict.fromkeys(needs.APIS, True),
    policy=POLICY,
    roles={needs.role_name(PROJECT, name): Role(file.permissions) for name, file in FILES.items()},
    accounts={
        email("operator"): Account(enabled=True, policy=()),
        **{email(who): Account(enabled=True, policy=ACTS) for who in needs.GIVEN},
    },
    region=Region(
        ("us-central1-a", "us-central1-b", "us-central1-c"),
        {
            "CPUS": Quota(24, 0),
            "PREEMPTIBLE_CPUS": Quota(8, 2),
            "INSTANCES": Quota(10, 1),
            "STATIC_ADDRESSES": Quota(8, 1),
            "IN_USE_ADDRESSES": Quota(8, 1),
            "SSD_TOTAL_GB": Quota(500, 20),
        },
    ),
    zones={"us-central1-a": Zone("UP", 2), "us-central1-b": Zone("UP", 2)},
    bucket=None,
    owner=None,
    operator=email("operator"),
)


def told(facts: Facts = ALL_WELL, settings: Settings = SETTINGS) -> list[Finding]:
    """All lines that are not ok."""
    found = [
        access.apis(facts.services, PROJECT),
        *Accounts(settings, facts, FILES).findings(),
        *region.zones(settings, facts),
        *region.quotas(settings, facts),
        *bucket.bucket(settings, facts.bucket),
        bucket.owner(settings, facts, NOW),
    ]
    return [finding for finding in found if finding.verdict is not Verdict.OK]


def only(facts: Facts, settings: Settings = SETTINGS) -> Finding:
    (finding,) = told(facts, settings)
    return finding


def test_all_is_well() -> None:
    assert told() == []


# --- settings, credentials, APIs ---


def test_each_wrong_setting_has_its_line() -> None:
    found = list(
        access.wrong_settings(["BUDGET_PROJECT is not set", "BUDGET_HEALTH_PORT: 'x' is not a port"])
    )
    assert [each.verdict for each in found] == [Verdict.MISSING] * 2
    assert [each.mend for each in found] == ["export BUDGET_PROJECT=my-project", "unset BUDGET_HEALTH_PORT"]


@pytest.mark.parametrize(
    ("caller", "said"),
    [
        (Caller("nobody"), "none"),
        (Caller("account", "x@y"), "of x@y"),
        (Caller("user"), "of a user"),
    ],
)
def test_whose_credentials_these_are(caller: Caller, said: str) -> None:
    assert said in access.credentials(caller).text


def test_without_credentials_something_is_missing_and_with_bad_ones_nothing_is_known() -> None:
    assert exit_code([access.no_credentials(found=False, why="none")]) == 1
    assert exit_code([access.no_credentials(found=True, why="expired")]) == 2
    assert exit_code([access.no_answer("timed out")]) == 2


def test_the_apis_that_are_off_are_enabled_with_one_command() -> None:
    services = dict.fromkeys(needs.APIS, True) | {"run.googleapis.com": False}
    del services["iam.googleapis.com"]
    found = only(replace(ALL_WELL, services=services))
    assert found.mend == "gcloud services enable run.googleapis.com iam.googleapis.com --project=p1"
    assert only(replace(ALL_WELL, services=NO_READ)).verdict is Verdict.UNKNOWN


# --- accounts ---


def with_account(who: str, account: Account | Unread | None) -> Facts:
    return replace(ALL_WELL, accounts={**ALL_WELL.accounts, email(who): account})


@pytest.mark.parametrize("who", ["operator", *needs.GIVEN])
def test_an_account_that_is_not_there_is_the_only_line(who: str) -> None:
    found = only(with_account(who, None))
    assert (found.verdict, found.mend) == (
        Verdict.MISSING,
        f"gcloud iam service-accounts create budgetml-{who} --project=p1",
    )


def test_an_account_of_another_project_is_made_there() -> None:
    assert mends.create_account(PROJECT, "a@p2.iam.gserviceaccount.com").endswith(" create a --project=p2")
    assert needs.home(PROJECT, "1-compute@developer.gserviceaccount.com") == PROJECT


def test_an_account_that_is_disabled() -> None:
    found = only(with_account("vm", Account(enabled=False, policy=ACTS)))
    assert found.mend == f"gcloud iam service-accounts enable {email('vm')} --project=p1"


def test_an_account_that_may_not_be_read_is_unknown_and_so_is_who_acts_as_it() -> None:
    found = told(with_account("vm", NO_READ))
    assert [(each.verdict, each.subject) for each in found] == [
        (Verdict.UNKNOWN, "vm"),
        (Verdict.UNKNOWN, "operator"),
    ]


@pytest.mark.parametrize(("who", "variable"), needs.GIVEN.items())
def test_an_account_that_is_not_set_is_warned_of(who: str, variable: str) -> None:
    field = variable.removeprefix("BUDGET_").lower()
    unset: dict[str, Any] = {field: "default" if who == "vm" else ""}
    found = only(ALL_WELL, replace(SETTINGS, **unset))
    assert (found.verdict, found.mend) == (Verdict.WARN, f"export {variable}={email(who)}")


def test_two_that_share_an_account() -> None:
    found = list(told(settings=replace(SETTINGS, trigger_service_account=email("vm"))))
    assert {each.subject for each in found} == {"vm", "trigger"}
    assert all(each.verdict is Verdict.MISSING for each in found)
    assert f"export BUDGET_TRIGGER_SERVICE_ACCOUNT={email('trigger')}" in [each.mend for each in found]


@pytest.mark.parametrize("role", ["roles/owner", "roles/editor"])
def test_a_basic_role_is_warned_of(role: str) -> None:
    basic = Grant(member(email("trigger")), role)
    roles = {**ALL_WELL.roles, role: Role(frozenset({"a.b.c"}))}
    found = only(replace(ALL_WELL, policy=(*POLICY, basic), roles=roles))
    assert (found.verdict, found.subject) == (Verdict.WARN, "trigger")
    assert found.mend == (
        f"gcloud projects remove-iam-policy-binding p1 --member=serviceAccount:{email('trigger')}"
        f" --role={role} --all"
    )


# --- roles ---

IN_PROJECT = [need for need in NEEDS if need.place is not Place.ACCOUNTS]


def with_role(file: str, role: Role | Unread | None) -> Facts:
    return replace(ALL_WELL, roles={**ALL_WELL.roles, needs.role_name(PROJECT, file): role})


@pytest.mark.parametrize("need", IN_PROJECT, ids=lambda need: need.role)
def test_a_grant_that_is_missing(need: needs.Need) -> None:
    gone = granted(need.who, need.role, need.place)
    found = only(replace(ALL_WELL, policy=tuple(each for each in POLICY if each != gone)))
    assert (found.verdict, found.subject) == (Verdict.MISSING, need.who)
    assert found.mend == mends.grant(PROJECT, need.role, email(need.who), need.place, BUCKET)


@pytest.mark.parametrize("who", needs.GIVEN)
def test_an_account_that_the_operator_may_not_act_as(who: str) -> None:
    found = only(with_account(who, Account(enabled=True, policy=())))
    assert found.mend == mends.grant_on_account(PROJECT, "operator-accounts", email("operator"), email(who))


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.role)
def test_a_role_that_lists_too_little_was_deleted_or_may_not_be_read(need: needs.Need) -> None:
    first = f"a.{need.role}.get"
    found = only(with_role(need.role, Role(frozenset({first}))))
    assert found.mend == mends.extend_role(PROJECT, need.role, [f"a.{need.role}.list"])
    found = only(with_role(need.role, Role(FILES[need.role].permissions, deleted=True)))
    assert found.mend == f"gcloud iam roles undelete {needs.role_id(need.role)} --project=p1"
    assert only(with_role(need.role, NO_READ)).verdict is Verdict.UNKNOWN


def test_a_role_that_is_not_there_is_made_and_granted() -> None:
    facts = with_role("trigger", None)
    policy = tuple(each for each in POLICY if "trigger" not in each.role)
    create, grant = told(replace(facts, policy=policy))
    assert create.mend == (
        "gcloud iam roles create budgetml_trigger --project=p1 --title=trigger --stage=GA"
        " --permissions=a.trigger.get,a.trigger.list"
    )
    assert grant.mend.startswith("gcloud projects add-iam-policy-binding p1 ")


def test_what_another_role_gives_is_not_missing() -> None:
    other = Grant(member(email("trigger")), "roles/run.invoker")
    roles = {**ALL_WELL.roles, other.role: Role(FILES["trigger"].permissions)}
    policy = tuple(each for each in POLICY if "trigger" not in each.role)
    assert told(replace(ALL_WELL, policy=(*policy, other), roles=roles)) == []


def test_what_the_buckets_own_policy_gives_is_not_missing() -> None:
    gone = granted("vm", "vm-code", Place.CODE)
    found = replace(FOUND, policy=(gone,))
    policy = tuple(each for each in POLICY if each != gone)
    assert told(replace(ALL_WELL, policy=policy, bucket=found)) == []


def test_a_policy_that_may_not_be_read_is_unknown_for_everyone() -> None:
    found = told(replace(ALL_WELL, policy=NO_READ))
    assert {each.verdict for each in found} == {Verdict.UNKNOWN}
    assert {each.subject for each in found} == {"operator", *needs.GIVEN}


RESTRICTED = [need for need in NEEDS if needs.condition(need.place, BUCKET)]


@pytest.mark.parametrize("need", RESTRICTED, ids=lambda need: need.role)
def test_a_grant_without_its_condition_reaches_too_far(need: needs.Need) -> None:
    right = granted(need.who, need.role, need.place)
    policy = tuple(replace(each, condition=None) if each == right else each for each in POLICY)
    found = only(replace(ALL_WELL, policy=policy))
    assert found.verdict is Verdict.MISSING
    assert "beyond" in found.text
    revoke, grant = found.mend.split(" && ")
    assert revoke == mends.revoke(PROJECT, email(need.who), right.role)
    assert grant == mends.grant(PROJECT, need.role, email(need.who), need.place, BUCKET)


def test_in_the_buckets_own_policy_too() -> None:
    wide = replace(granted("vm", "vm-code"), condition=None)
    found = only(replace(ALL_WELL, bucket=replace(FOUND, policy=(wide,))))
    assert found.mend.startswith(f"gcloud storage buckets remove-iam-policy-binding gs://{BUCKET} ")


def test_the_condition_of_another_bucket_gives_nothing_here() -> None:
    wrong = Condition("t", needs.condition(Place.CODE, "another"))
    right = granted("vm", "vm-code", Place.CODE)
    policy = tuple(replace(each, condition=wrong) if each == right else each for each in POLICY)
    (found,) = told(replace(ALL_WELL, policy=policy))
    assert found.mend == mends.grant(PROJECT, "vm-code", email("vm"), Place.CODE, BUCKET)


def test_a_condition_that_is_not_understood_is_unknown() -> None:
    odd = Condition("t", "request.time < timestamp('2027-01-01T00:00:00Z')")
    right = granted("trigger", "trigger")
    policy = tuple(replace(each, condition=odd) if each == right else each for each in POLICY)
    found = only(replace(ALL_WELL, policy=policy))
    assert (found.verdict, found.subject) == (Verdict.UNKNOWN, "trigger")


@pytest.mark.parametrize(
    ("expression", "resource", "answer"),
    [
        (f"resource.name == '{NAME}'", NAME, True),
        (f'resource.name == "{NAME}"', f"{NAME}/objects/a", False),
        (f"resource.name.startsWith('{NAME}/')", f"{NAME}/objects/a", True),
        (f"resource.name.startsWith('{NAME}/')", f"{NAME}-other/objects/a", False),
        (f"resource.name == 'x' || resource.name.startsWith('{NAME}')", NAME, True),
        (f"resource.name == 'x' && resource.name.startsWith('{NAME}')", NAME, None),
        ("resource.type == 'storage.googleapis.com/Bucket'", NAME, None),
    ],
)
def test_conditions(expression: str, resource: str, answer: bool | None) -> None:
    assert applies(Condition("t", expression), resource) is answer


def test_several_grants_together_hold_where_each_alone_does_not() -> None:
    role = Role(frozenset({"a.b.c"}))
    grants = [Grant("m", "r", Condition("t", f"resource.name == '{name}'")) for name in ("x", "y")]
    assert held(grants, {"r": role}, ("x", "y")).permissions == {"a.b.c"}
    assert held(grants, {"r": role}, ("x", "z")).permissions == frozenset()


# --- the operator itself ---

EVERYTHING = Own(
    project=FILES["operator"].permissions,
    bucket=FILES["operator-bucket"].permissions,
    accounts={email(who): FILES["operator-accounts"].permissions for who in needs.GIVEN},
)
ITSELF = replace(
    ALL_WELL,
    caller=Caller("account", email("operator")),
    policy=tuple(each for each in POLICY if each.member != member(email("operator"))),
    own=EVERYTHING,
)


def test_an_operator_that_looks_itself_is_asked_what_it_may_do() -> None:
    assert told(ITSELF) == []


def test_what_it_lacks_is_granted_or_added_to_its_role() -> None:
    none = replace(ITSELF, own=replace(EVERYTHING, project=frozenset()))
    grant = mends.grant(PROJECT, "operator", email("operator"), Place.PROJECT, BUCKET)
    assert only(none).mend == grant
    blind = replace(none, roles=dict.fromkeys(ALL_WELL.roles, NO_READ))
    assert grant in [each.mend for each in told(blind)]
    some = replace(blind, own=replace(EVERYTHING, project=frozenset({"a.operator.get"})))
    assert mends.extend_role(PROJECT, "operator", ["a.operator.list"]) in [each.mend for each in told(some)]


def test_what_it_lacks_on_one_account() -> None:
    accounts = {**EVERYTHING.accounts, email("vm"): frozenset[str]()}
    found = only(replace(ITSELF, own=replace(EVERYTHING, accounts=accounts)))
    assert found.mend == mends.grant_on_account(PROJECT, "operator-accounts", email("operator"), email("vm"))


def test_of_a_bucket_that_is_not_there_the_projects_answer_counts() -> None:
    own = replace(EVERYTHING, bucket=Unread("not there"))
    assert only(replace(ITSELF, own=own)).verdict is Verdict.UNKNOWN
    everywhere = FILES["operator"].permissions | FILES["operator-bucket"].permissions
    assert told(replace(ITSELF, own=replace(own, project=everywhere))) == []


# --- zones and quotas ---


def with_zone(zone: Zone | Unread | None) -> Facts:
    return replace(ALL_WELL, zones={**ALL_WELL.zones, "us-central1-b": zone})


@pytest.mark.parametrize(
    ("zone", "said"),
    [(None, "no zone"), (Zone("DOWN", 2), "DOWN"), (Zone("UP", None), "no machines of type e2-medium")],
)
def test_a_zone_that_does_not_serve_is_left_out(zone: Zone | None, said: str) -> None:
    found = only(with_zone(zone))
    assert said in found.text
    assert (found.verdict, found.mend) == (Verdict.MISSING, "export BUDGET_ZONES=us-central1-a")


@pytest.mark.parametrize("zone", [NO_READ, Zone("UP", NO_READ)])
def test_a_zone_that_may_not_be_read(zone: Zone | Unread) -> None:
    assert only(with_zone(zone)).verdict is Verdict.UNKNOWN


def test_where_no_zone_serves_those_of_the_region_do() -> None:
    facts = replace(ALL_WELL, zones={"us-central1-a": None})
    found = told(facts, replace(SETTINGS, zones=("us-central1-a",)))[0]
    assert found.mend == "export BUDGET_ZONES=us-central1-b,us-central1-c"
    found = told(replace(facts, region=None), replace(SETTINGS, zones=("us-central1-a",)))[0]
    assert found.mend == "gcloud compute zones list --filter=region:us-central1 --project=p1"


def with_quota(**quotas: Quota) -> Facts:
    assert isinstance(ALL_WELL.region, Region)
    return replace(ALL_WELL, region=replace(ALL_WELL.region, quotas={**ALL_WELL.region.quotas, **quotas}))


@pytest.mark.parametrize(
    ("metric", "room"),
    [
        ("PREEMPTIBLE_CPUS", 2),
        ("INSTANCES", 1),
        ("STATIC_ADDRESSES", 1),
        ("IN_USE_ADDRESSES", 1),
        ("SSD_TOTAL_GB", 20),
    ],
)
def test_a_quota_leaves_room_for_one_more_deployment_or_not(metric: str, room: int) -> None:
    assert told(with_quota(**{metric: Quota(100, 100 - room)})) == []
    found = only(with_quota(**{metric: Quota(100, 101 - room)}))
    assert (found.verdict, found.subject) == (Verdict.MISSING, "quota")
    assert found.text.startswith(f"{metric}: {101 - room} of 100 used, one more deployment takes {room}")
    assert "--preferred-value=101" in found.mend
    assert f"--quota-id={metric.replace('_', '-')}-per-project-region" in found.mend


def test_without_a_quota_of_their_own_spot_vms_count_with_the_others() -> None:
    none = Quota(0, 0)
    assert told(with_quota(PREEMPTIBLE_CPUS=none)) == []
    assert only(with_quota(PREEMPTIBLE_CPUS=none, CPUS=Quota(1, 0))).text.startswith("CPUS: ")


def test_quotas_that_are_not_told_are_unknown() -> None:
    assert only(replace(ALL_WELL, region=NO_READ)).verdict is Verdict.UNKNOWN
    assert isinstance(ALL_WELL.region, Region)
    quotas = {key: quota for key, quota in ALL_WELL.region.quotas.items() if key != "INSTANCES"}
    found = only(replace(ALL_WELL, region=replace(ALL_WELL.region, quotas=quotas)))
    assert (found.verdict, found.text[:9]) == (Verdict.UNKNOWN, "INSTANCES")
    blind = replace(ALL_WELL, zones=dict.fromkeys(ALL_WELL.zones, Zone("UP", NO_READ)))
    assert [each.subject for each in told(blind)] == ["zone", "zone", "quota"]


# --- bucket and owner ---

FOUND = Bucket(
    location="US-CENTRAL1",
    labels=Shared("default").labels,
    uniform_access=True,
    public_access_prevented=True,
    policy=(),
)


def test_a_bucket_of_ours_is_well_and_so_is_none() -> None:
    assert told(replace(ALL_WELL, bucket=FOUND)) == []
    assert told(replace(ALL_WELL, bucket=None)) == []


@pytest.mark.parametrize(
    ("change", "verdict", "mend"),
    [
        ({"labels": {}}, Verdict.MISSING, f"--update-labels=budgetml-installation={Shared('default').hash}"),
        ({"uniform_access": False}, Verdict.MISSING, "--uniform-bucket-level-access"),
        ({"public_access_prevented": False}, Verdict.WARN, "--public-access-prevention"),
        ({"location": "US"}, Verdict.WARN, f"export BUDGET_BUCKET={BUCKET}-us-central1"),
    ],
)
def test_a_bucket_that_is_not_as_it_should_be(change: dict[str, Any], verdict: Verdict, mend: str) -> None:
    found = only(replace(ALL_WELL, bucket=replace(FOUND, **change)))
    assert (found.verdict, found.subject) == (verdict, "bucket")
    assert found.mend.endswith(mend)


def test_a_bucket_that_may_not_be_read_is_unknown_for_whoever_needs_it() -> None:
    found = told(replace(ALL_WELL, bucket=NO_READ))
    assert [(each.verdict, each.subject) for each in found] == [(Verdict.UNKNOWN, "bucket")], (
        "what the project's policy gives is known all the same"
    )


def claimed(minutes: int, cluster: str = "other") -> Facts:
    claim = Claim(cluster, NOW - timedelta(hours=1), NOW - timedelta(minutes=minutes))
    return replace(ALL_WELL, owner=Stored(claim.document(), 1))


def test_the_owner_as_it_is_where_no_cluster_is_at_hand() -> None:
    found = bucket.owner(SETTINGS, claimed(3), NOW)
    assert (found.verdict, found.text) == (Verdict.OK, "cluster other, last heard of 3 min ago")
    assert told(claimed(14)) == []
    assert only(claimed(15)).verdict is Verdict.WARN
    assert only(replace(ALL_WELL, owner=NO_READ)).verdict is Verdict.UNKNOWN
    assert only(replace(ALL_WELL, owner=Stored(b"?", 1))).verdict is Verdict.WARN


def test_the_owner_beside_the_cluster_at_hand() -> None:
    assert "this one" in bucket.owner(SETTINGS, replace(claimed(3), cluster="other"), NOW).text
    here = replace(claimed(3), cluster="0123456789")
    found = only(here)
    assert found.mend == f"export BUDGET_INSTALLATION=default-01234567 BUDGET_BUCKET={BUCKET}-01234567"
    assert found.verdict is Verdict.MISSING
    assert told(here, replace(SETTINGS, takeover=True)) == []


# --- how it is told ---

LINES = [
    ok("APIs", "all"),
    missing("vm", "there is none", "make one"),
    warn("vm", "too much", "take it away"),
    unknown("quota", Unread("lacks x")),
]


def test_a_line_each_and_the_command_below() -> None:
    assert as_text(LINES).splitlines() == [
        "ok       APIs   all",
        "MISSING  vm     there is none",
        "    mend: make one",
        "WARN     vm     too much",
        "    mend: take it away",
        "unknown  quota  lacks x",
    ]
    assert json.loads(as_json(LINES))["findings"][1] == {
        "verdict": "MISSING",
        "subject": "vm",
        "text": "there is none",
        "mend": "make one",
    }


def test_the_exit_code() -> None:
    assert [exit_code(LINES[:end]) for end in (1, 2, 3, 4)] == [0, 1, 1, 1]
    assert exit_code([LINES[0], LINES[2]]) == 0
    assert exit_code([LINES[0], LINES[3]]) == 2


def test_the_guide_enables_just_these_apis() -> None:
    text = (ROOT / "docs" / "gcp.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"gcloud services enable ((?:[^\n]*\\\n)*[^\n]*)", text)[:1]
    assert listed.replace("\\\n", " ").split() == list(needs.APIS)
