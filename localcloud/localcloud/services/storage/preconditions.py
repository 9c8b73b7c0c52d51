"""`ifGenerationMatch` and its three relatives, as one pure decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class BadPreconditionError(ValueError):
    """A precondition is not a number."""


@dataclass(frozen=True)
class Version:
    """Generation and metageneration of what is there; both 0 where nothing is."""

    generation: int = 0
    metageneration: int = 0


@dataclass(frozen=True)
class Preconditions:
    """What a request wants to be true before it acts; None = not asked."""

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], infix: str = "") -> Preconditions:
        """Read them from query parameters; `infix` is `Source` for the source of a copy."""
        return cls(
            _number(query, f"if{infix}GenerationMatch"),
            _number(query, f"if{infix}GenerationNotMatch"),
            _number(query, f"if{infix}MetagenerationMatch"),
            _number(query, f"if{infix}MetagenerationNotMatch"),
        )

    def unmet(self, there: Version) -> bool:
        """Whether a `…Match` fails: the answer is 412."""
        return (self.generation is not None and self.generation != there.generation) or (
            self.metageneration is not None and self.metageneration != there.metageneration
        )

    def unchanged(self, there: Version) -> bool:
        """Whether a `…NotMatch` fails: the answer is 304 to a read and 412 to a write."""
        return (self.not_generation is not None and self.not_generation == there.generation) or (
            self.not_metageneration is not None and self.not_metageneration == there.metageneration
        )


def _number(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if not value.isdecimal():
        raise BadPreconditionError(f"{name} must be a number, not {value!r}")
    return int(value)
