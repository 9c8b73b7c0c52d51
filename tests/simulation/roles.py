"""The roles in operator/deploy/iam, bound in a world to the accounts and resources that its README names."""

from dataclasses import replace

from budget_operator.core.settings import Settings
from dev.paths import ROOT
from dev.simulation.world import OPERATOR, PROJECT, World
from localcloud.iam import Binding, Iam, permissions_in

ROLES = ROOT / "operator" / "deploy" / "iam"
GIVEN = ("vm", "function-run", "function-build", "trigger")
"""The accounts that the operator gives away, and so acts as."""


def account(name: str, project: str = PROJECT) -> str:
    return f"{name}@{project}.iam.gserviceaccount.com"


def bound(project: str, bucket: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Which roles an account has, and where."""
    everywhere, held = (f"projects/{project}*",), f"projects/_/buckets/{bucket}"
    given = tuple(f"projects/{project}/serviceAccounts/{account(name, project)}" for name in GIVEN)
    return {
        "operator": {
            "operator": everywhere,
            "operator-bucket": (held, f"{held}/*"),
            "operator-accounts": given,
        },
        "function-run": {"function-run": everywhere},
        "vm": {
            "vm": everywhere,
            "vm-code": (f"{held}/objects/code/*",),
            "vm-state": (held, f"{held}/objects/state/*"),
        },
    }


BOUND = {name: bound(PROJECT, "simulated-budgetml")[name] for name in ("operator", "function-run")}
"""Of the accounts that call anything in a simulation."""
assert account("operator") == OPERATOR


def listed(*roles: str) -> frozenset[str]:
    """The permissions of these roles."""
    files = [(ROLES / f"{role}.yaml").read_text(encoding="utf-8") for role in roles]
    return frozenset().union(*map(permissions_in, files))


def bind(iam: Iam, roles: dict[str, dict[str, tuple[str, ...]]], project: str, without: str = "") -> None:
    """From now on these accounts may do what their roles (but one) say and no more; others everything."""
    for name, granted in roles.items():
        iam.unbind(account(name, project))
        for role, places in granted.items():
            for place in () if role == without else places:
                iam.bind(Binding(account=account(name, project), permissions=listed(role), on=place))


def accounts(settings: Settings) -> Settings:
    """With the accounts that the operator gives away."""
    vm, run, build, trigger = (account(name, settings.project) for name in GIVEN)
    return replace(
        settings,
        vm_service_account=vm,
        function_service_account=run,
        build_service_account=build,
        trigger_service_account=trigger,
    )


def confine(made: World, without: str = "") -> None:
    """Operator and function of this world get their roles (but one), and no more."""
    made.settings = accounts(made.settings)
    made.operator = made.new_operator()
    bind(made.cloud.context.iam, BOUND, PROJECT, without)
