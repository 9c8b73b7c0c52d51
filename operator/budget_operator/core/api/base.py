"""What spec and status share: the resource's names, and how its models look on the wire."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

GROUP = "budgetml.dev"
VERSION = "v1alpha1"
KIND = "BudgetDeployment"
PLURAL = "budgetdeployments"
FINALIZER = f"{GROUP}/cleanup"
#: Holds the uid of an object that is being deleted: its parts in the cloud are given up.
ABANDON = f"{GROUP}/abandon"
#: Asks for a preemption; each new value once.
DRILL = f"{GROUP}/drill"


class Model(BaseModel):
    """Base of all parts: frozen, camelCase on the wire, unknown fields refused."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")
