"""How a Google client is built: which endpoint it speaks to, with which credentials, and with which limits.

The same two settings make it Google Cloud or any other server that speaks its APIs; nothing else in the
operator knows the difference. Which calls are made is the gateways' business.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from google.api_core.client_options import ClientOptions
from google.api_core.timeout import ConstantTimeout
from google.auth.credentials import AnonymousCredentials, Credentials

from budget_operator.cloud.calls import count
from budget_operator.cloud.credentials import Current

ClientT = TypeVar("ClientT")

CONNECT_SECONDS = 10.0
READ_SECONDS = 20.0
# `requests` wants the pair; the generated clients hand on what this decorator sets.
TIMEOUT = ConstantTimeout((CONNECT_SECONDS, READ_SECONDS))  # type: ignore[no-untyped-call]
# Nothing is repeated behind our back: a mutation is repeated with its request id by the next pass, and a
# read by the queue's back-off, which alone knows how many deployments are waiting for Google at once.
CALL: dict[str, Any] = {"retry": None, "timeout": TIMEOUT}


@dataclass(frozen=True)
class Connection:
    """Endpoint (empty = Google's own, one per service) and credentials of one project."""

    project: str
    endpoint: str = ""
    credentials: Literal["adc", "anonymous"] = "adc"
    _made: dict[str, Credentials] = field(default_factory=dict, repr=False, compare=False)

    def options(self) -> ClientOptions:
        """Client options that lead to the endpoint."""
        return ClientOptions(api_endpoint=self.endpoint.rstrip("/") or None)

    def google_credentials(self) -> Credentials:
        """The credentials object, shared by all clients so that one token serves them all."""
        if self.credentials not in self._made:
            self._made[self.credentials] = self._make_credentials()
        return self._made[self.credentials]

    def _make_credentials(self) -> Credentials:
        if self.credentials == "anonymous":
            return AnonymousCredentials()  # type: ignore[no-untyped-call]
        return Current()

    def client(self, kind: Callable[..., ClientT], **settings: Any) -> ClientT:
        """A generated client, such as `compute_client.InstancesClient`."""
        made = kind(credentials=self.google_credentials(), client_options=self.options(), **settings)
        count(made)
        return made
