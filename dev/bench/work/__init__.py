"""What every server computes, so that what is left to compare is the server.

A workload is a module with `PAYLOAD`, which is sent, and `work`, which makes the answer of it. Servers import
theirs alone: an `echo` without numpy takes no memory for it.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any, Protocol, cast

VARIABLE = "BENCH_WORKLOAD"
WORKLOADS = ("echo", "mlp")

Payload = dict[str, Any]


class Workload(Protocol):
    """The part of such a module that all have."""

    PAYLOAD: Payload

    work: Callable[[Payload], Payload]


def named(name: str) -> Workload:
    """The workload of this name."""
    return cast(Workload, importlib.import_module(f"{__name__}.{name}"))


def chosen() -> Workload:
    """The one that this process was started for."""
    return named(os.environ[VARIABLE])
