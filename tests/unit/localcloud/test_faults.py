import re

import pytest

from localcloud.faults import CallFault, Faults
from localcloud.store import Store


def test_a_fault_fails_so_many_matching_calls(store: Store) -> None:
    faults = Faults(store)
    faults.add(CallFault(path="/instances$", method="POST", count=2))
    assert faults.take("GET", "/instances") is None
    assert faults.take("POST", "/instances/vm1/start") is None
    assert faults.take("POST", "/zones/z/instances") is not None
    assert Faults(store).take("POST", "/zones/z/instances") is not None, "kept over a restart"
    assert faults.take("POST", "/zones/z/instances") is None


def test_a_wrong_expression_is_refused(store: Store) -> None:
    with pytest.raises(re.error):
        Faults(store).add(CallFault(path="("))


def test_stock_outs_are_per_zone_and_type(store: Store) -> None:
    faults = Faults(store)
    faults.stock_out("z1", "e2-small")
    faults.stock_out("z2")
    assert faults.is_sold_out("z1", "e2-small")
    assert not faults.is_sold_out("z1", "e2-medium")
    assert faults.is_sold_out("z2", "e2-medium")
    assert faults.restock("z2") is True
    assert faults.restock("z2") is False
    assert not faults.is_sold_out("z2", "e2-medium")
    faults.add(CallFault(path="x"))
    faults.refuse("a.b")
    assert faults.refused_fields() == ["a.b"]
    faults.clear()
    assert faults.all() == {"calls": [], "stockOuts": [], "refusedFields": []}
