"""What changing a field of the spec does, as the reference of the custom resource explains it."""

from collections.abc import Mapping

ROLLOUT = "rollout"
FRONT_DOOR = "front door"
REPLACE = "replace"
RESTART = "restart"
RECREATE = "recreate"
POWER = "power"
NOTHING = "nothing"

MEANINGS: Mapping[str, str] = {
    ROLLOUT: "on the running VM, without a lost request",
    FRONT_DOOR: "on the running VM: address and certificate of the endpoint",
    REPLACE: "the container on the VM is; not answered until the model is loaded again",
    RESTART: "the VM is stopped and started; down about as long as a boot takes",
    RECREATE: "the VM and its disk are made anew behind the same address",
    POWER: "the VM is stopped, or started again; its disk stays",
    NOTHING: "to what runs",
}

#: By field, or by the part of the spec that it belongs to.
EFFECTS: Mapping[str, str] = {
    "predictor": ROLLOUT,
    "requirements": ROLLOUT,
    "env": ROLLOUT,
    "auth": ROLLOUT,
    "readiness.payload": ROLLOUT,
    "readiness.startupSeconds": ROLLOUT,
    "server": ROLLOUT,
    "endpoint": FRONT_DOOR,
    "image": REPLACE,
    "machine.type": RESTART,
    "machine.diskGiB": RESTART,
    "machine.provisioning": RECREATE,
    "suspend": POWER,
    "budget.monthly": POWER,
    "budget.onExceeded": POWER,
    "placement": NOTHING,
    "budget.warnAt": NOTHING,
    "readiness.failureSeconds": NOTHING,
    "deletionPolicy": NOTHING,
}


def by_effect() -> dict[str, list[str]]:
    """All fields, gathered by what changing them does."""
    return {effect: [field for field, found in EFFECTS.items() if found == effect] for effect in MEANINGS}
