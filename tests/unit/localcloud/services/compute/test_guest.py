import pytest

from localcloud.errors import ApiError
from localcloud.services.compute.guest import GuestAttributes, enabled
from localcloud.store import Store

VM = "projects/p/zones/z/instances/n"


def test_queries_by_namespace_and_by_key(store: Store) -> None:
    guest = GuestAttributes(store)
    guest.put(VM, "budgetml", "state", "s")
    guest.put(VM, "budgetml2", "x", "y")
    guest.put(VM + "2", "budgetml", "state", "other")
    values = guest.query(VM, "budgetml/", "")["queryValue"]["items"]
    assert values == [{"namespace": "budgetml", "key": "state", "value": "s"}]
    assert guest.query(VM, "", "budgetml2/x") == {"variableKey": "budgetml2/x", "variableValue": "y"}
    assert len(guest.query(VM, "", "")["queryValue"]["items"]) == 2
    guest.forget(VM)
    assert guest.all(VM) == {}
    assert guest.all(VM + "2") == {"budgetml/state": "other"}
    with pytest.raises(ApiError):
        guest.query(VM, "budgetml/", "")


def test_limits(store: Store) -> None:
    guest = GuestAttributes(store)
    guest.put(VM, "n", "k", "x" * 200_000)
    guest.put(VM, "n", "k", "x" * 250_000)
    with pytest.raises(ApiError) as caught:
        guest.put(VM, "n", "k2", "x" * 10_000)
    assert caught.value.code == 413
    with pytest.raises(ApiError):
        guest.put(VM, "n", "a/b", "x")


def test_they_must_be_enabled() -> None:
    assert enabled({"enable-guest-attributes": "true"})
    assert not enabled({})


def test_what_a_guest_wrote_is_believed_rather_than_what_is_told_for_it(store: Store) -> None:
    guest = GuestAttributes(store, [lambda instance: {"n/told": instance, "n/both": "told"}])
    guest.put(VM, "n", "both", "written")
    assert guest.all(VM) == {"n/told": VM, "n/both": "written"}
