"""How to reach the API server, in plain values: what `kube` reads from the configuration and `watch` uses."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Access:
    """Paths name files; empty strings stand for what is not set."""

    server: str  # URL
    ca_file: str  # empty: the machine's authorities
    verify: bool
    authorization: str = field(repr=False)  # the whole header
    certificate_file: str = ""
    key_file: str = ""
