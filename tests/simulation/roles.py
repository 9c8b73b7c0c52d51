"""The roles in operator/deploy/iam, bound in a world to the accounts and resources that its README names."""

from dataclasses import replace

from dev.paths import ROOT
from dev.simulation.world import OPERATOR, PROJECT, World
from localcloud.iam import Binding, permissions_in

ROLES = ROOT / "operator" / "deploy" / "iam"
BUCKET = "projects/_/buckets/simulated-budgetml"


def account(name: str) -> str:
    return f"{name}@{PROJECT}.iam.gserviceaccount.com"


GIVEN = ("vm", "function-run", "function-build", "trigger")
"""The accounts that the operator gives away, and so acts as."""
BOUND: dict[str, dict[str, tuple[str, ...]]] = {
    "operator": {
        "operator": (f"projects/{PROJECT}*",),
        "operator-bucket": (BUCKET, f"{BUCKET}/*"),
        "operator-accounts": tuple(f"projects/{PROJECT}/serviceAccounts/{account(name)}" for name in GIVEN),
    },
    "function-run": {"function-run": (f"projects/{PROJECT}*",)},
}
"""Which roles an account has, and where."""
assert account("operator") == OPERATOR


def listed(*roles: str) -> frozenset[str]:
    """The permissions of these roles."""
    files = [(ROLES / f"{role}.yaml").read_text(encoding="utf-8") for role in roles]
    return frozenset().union(*map(permissions_in, files))


def confine(made: World, without: str = "") -> None:
    """From now on operator and function may do what their roles (but one) say, no more; others everything."""
    vm, run, build, trigger = map(account, GIVEN)
    made.settings = replace(
        made.settings,
        vm_service_account=vm,
        function_service_account=run,
        build_service_account=build,
        trigger_service_account=trigger,
    )
    made.operator = made.new_operator()
    for name, roles in BOUND.items():
        made.cloud.context.iam.unbind(account(name))
        for role, places in roles.items():
            for place in () if role == without else places:
                binding = Binding(account=account(name), permissions=listed(role), on=place)
                made.cloud.context.iam.bind(binding)
