"""How the operator behaves with many deployments: `make bench-operator`.

A real API server, the local cloud with guests that answer, and the operator, each a process of its own.
`run` plays the story and judges it, `stage` has the processes and what is read off them, `recorded` is the
operator with its calls written down, `replay` makes the same calls without it.
"""

from dev.bench.operator.run import Options, run

__all__ = ["Options", "run"]
