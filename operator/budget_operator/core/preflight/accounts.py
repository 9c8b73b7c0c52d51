"""The operator and the accounts that it gives away: whether each is there, its own, and may do what it must.

What an account may do is told by policies; of the operator itself, where it is the caller, Google is asked.
"""

from collections.abc import Iterator

from budget_operator.core.preflight import mends
from budget_operator.core.preflight.facts import Account, Bucket, Facts, Grant, Own, Policy, Role, Unread
from budget_operator.core.preflight.findings import Finding, missing, ok, unknown, warn
from budget_operator.core.preflight.grants import BASIC, Held, applies, held, of
from budget_operator.core.preflight.needs import (
    GIVEN,
    NEEDS,
    OPERATOR,
    Need,
    Place,
    RoleFiles,
    bucket_name,
    default_email,
    given,
    inside,
    outside,
    role_id,
    role_name,
)
from budget_operator.core.settings import Settings

_PLACES = {
    Place.PROJECT: "in the project",
    Place.BUCKET: "in the bucket",
    Place.CODE: "on code/ in the bucket",
    Place.STATE: "on state/ in the bucket",
    Place.ACCOUNTS: "on the other accounts",
}


class Accounts:
    """The checks; all of them read the same facts."""

    def __init__(self, settings: Settings, facts: Facts, files: RoleFiles) -> None:
        self._settings = settings
        self._project = settings.project
        self._facts = facts
        self._files = files
        self._given = given(settings)
        self._emails = {OPERATOR: facts.operator} | self._given

    def findings(self) -> Iterator[Finding]:
        for who, email in self._emails.items():
            if email:
                yield self._account(who, email)
                yield from self._basic(who, email)
            elif who != OPERATOR:
                yield self._not_set(who)
        for need in NEEDS:
            email = self._emails[need.who]
            if need.who == OPERATOR and self._facts.own is not None:
                yield from self._own(need, self._facts.own)
            elif email and self._facts.accounts.get(email) is not None:
                yield from self._granted(need, email)
                yield from self._beyond(need, email)

    def _not_set(self, who: str) -> Finding:
        text = f"{GIVEN[who]} is not set: Google chooses, often an account that may do nearly everything"
        return warn(who, text, f"export {GIVEN[who]}={default_email(self._project, who)}")

    def _account(self, who: str, email: str) -> Finding:
        others = [other for other, its in self._emails.items() if its == email and other != who]
        if others and who != OPERATOR:
            mend = f"export {GIVEN[who]}={default_email(self._project, who)}"
            return missing(who, f"{email} is the account of {others[0]} too", mend)
        account = self._facts.accounts[email]
        if isinstance(account, Unread):
            return unknown(who, account)
        if account is None:
            return missing(who, f"there is no account {email}", mends.create_account(self._project, email))
        if not account.enabled:
            mend = f"gcloud iam service-accounts enable {email} --project={self._project}"
            return missing(who, f"{email} is disabled", mend)
        return ok(who, f"{email} is there")

    def _basic(self, who: str, email: str) -> Iterator[Finding]:
        policy = self._facts.policy
        for grant in () if isinstance(policy, Unread) else of(policy, email):
            if grant.role in BASIC:
                text = f"{email} has {grant.role}, which is far more than it needs"
                yield warn(who, text, mends.revoke(self._project, email, grant.role))

    # --- what the caller itself may do ---

    def _own(self, need: Need, own: Own) -> Iterator[Finding]:
        answers = own.accounts if need.place is Place.ACCOUNTS else {"": own.project}
        if need.place is Place.BUCKET:
            answers = {"": own.bucket}
        for target, answer in answers.items():
            yield from self._own_on(need, target, answer, own.project)

    def _own_on(
        self, need: Need, target: str, answer: frozenset[str] | Unread, project: frozenset[str] | Unread
    ) -> Iterator[Finding]:
        wanted = self._files[need.role].permissions
        known = [each for each in (answer, project) if not isinstance(each, Unread)]
        lacking = wanted - frozenset[str]().union(*known)
        where = f"on {target}" if target else _PLACES[need.place]
        if not lacking:
            yield ok(need.who, f"may do {where} what {role_id(need.role)} lists")
        elif isinstance(answer, Unread):
            yield unknown(need.who, Unread(f"what it may do {where}: {answer.why}", answer.mend))
        else:
            text = f"lacks {where}: {', '.join(sorted(lacking))}"
            yield missing(need.who, text, self._mend_own(need, target, lacking, wanted))

    def _mend_own(self, need: Need, target: str, lacking: frozenset[str], wanted: frozenset[str]) -> str:
        """An operator may not read roles: where it has some permissions of one, it has the role."""
        role = self._facts.roles[role_name(self._project, need.role)]
        if isinstance(role, Unread):
            if lacking < wanted:
                return mends.extend_role(self._project, need.role, lacking)
        elif (trouble := next(self._role(need, role), None)) is not None:
            return trouble.mend
        return self._grant(need, self._facts.operator or default_email(self._project, OPERATOR), target)

    # --- what policies say ---

    def _granted(self, need: Need, email: str) -> Iterator[Finding]:
        wanted = self._files[need.role].permissions
        targets = [""] if need.place is not Place.ACCOUNTS else self._targets()
        found = {target: self._held(need, email, target) for target in targets}
        short = {target: each for target, each in found.items() if wanted - each.permissions}
        if not short:
            yield ok(need.who, f"may do {_PLACES[need.place]} what {role_id(need.role)} lists")
            return
        undecided = [why for each in short.values() for why in each.undecided]
        role = self._facts.roles[role_name(self._project, need.role)]
        if undecided or isinstance(role, Unread):
            why = undecided[0] if undecided else role.why if isinstance(role, Unread) else ""
            yield unknown(need.who, Unread(f"what it may do {_PLACES[need.place]}: {why}"))
            return
        yield from self._role(need, role)
        for target in short:
            if not self._has_grant(need, email, target):
                where = f"on {target}" if target else _PLACES[need.place]
                text = f"{email} does not have {role_id(need.role)} {where}"
                yield missing(need.who, text, self._grant(need, email, target))

    def _role(self, need: Need, role: Role | None) -> Iterator[Finding]:
        file, name = self._files[need.role], role_id(need.role)
        if role is None:
            mend = mends.create_role(self._project, need.role, file)
            yield missing(need.who, f"there is no role {name}", mend)
        elif role.deleted:
            mend = f"gcloud iam roles undelete {name} --project={self._project}"
            yield missing(need.who, f"the role {name} was deleted", mend)
        elif lacking := file.permissions - role.permissions:
            mend = mends.extend_role(self._project, need.role, lacking)
            yield missing(need.who, f"the role {name} does not list {', '.join(sorted(lacking))}", mend)

    def _targets(self) -> list[str]:
        """The accounts that there are to act as; of one that is missing a line of its own tells."""
        emails = dict.fromkeys(email for email in self._given.values() if email)
        return [email for email in emails if self._facts.accounts[email] is not None]

    def _sources(self, need: Need, target: str) -> Iterator[Policy | Unread]:
        yield self._facts.policy
        bucket, account = self._facts.bucket, self._facts.accounts.get(target)
        if inside(need.place, "") and bucket is not None:
            yield bucket.policy if isinstance(bucket, Bucket) else bucket
        if target and account is not None:
            yield account.policy if isinstance(account, Account) else account

    def _held(self, need: Need, email: str, target: str) -> Held:
        sources = list(self._sources(need, target))
        grants = [
            grant for policy in sources if not isinstance(policy, Unread) for grant in of(policy, email)
        ]
        found = held(grants, self._facts.roles, inside(need.place, self._settings.bucket))
        unread = tuple(each.why for each in sources if isinstance(each, Unread))
        return Held(found.permissions, unread + found.undecided)

    def _has_grant(self, need: Need, email: str, target: str) -> bool:
        names = inside(need.place, self._settings.bucket) or ("",)
        return any(
            grant.role == role_name(self._project, need.role)
            and all(applies(grant.condition, name) for name in names)
            for policy in self._sources(need, target)
            if not isinstance(policy, Unread)
            for grant in of(policy, email)
        )

    def _grant(self, need: Need, email: str, target: str) -> str:
        if target:
            return mends.grant_on_account(self._project, need.role, email, target)
        return mends.grant(self._project, need.role, email, need.place, self._settings.bucket)

    # --- where a role must not hold ---

    def _beyond(self, need: Need, email: str) -> Iterator[Finding]:
        """A role for a part of the bucket that is granted for more than that."""
        bucket, name = self._facts.bucket, bucket_name(self._settings.bucket)
        elsewhere = outside(need.place, self._settings.bucket)
        text = f"{email} has {role_id(need.role)} beyond what it is for: {_PLACES[need.place]} alone"
        again = self._grant(need, email, "")
        if self._reaches(need, self._facts.policy, email, elsewhere):
            full = role_name(self._project, need.role)
            yield missing(need.who, text, f"{mends.revoke(self._project, email, full)} && {again}")
        within = tuple(each for each in elsewhere if each.startswith(f"{name}/"))
        if isinstance(bucket, Bucket) and self._reaches(need, bucket.policy, email, within):
            revoke = mends.revoke_in_bucket(self._project, self._settings.bucket, need.role, email)
            yield missing(need.who, text, f"{revoke} && {again}")

    def _reaches(self, need: Need, policy: Policy | Unread, email: str, names: tuple[str, ...]) -> bool:
        mine: tuple[Grant, ...] = () if isinstance(policy, Unread) else of(policy, email)
        return any(
            applies(grant.condition, name)
            for grant in mine
            if grant.role == role_name(self._project, need.role)
            for name in names
        )
