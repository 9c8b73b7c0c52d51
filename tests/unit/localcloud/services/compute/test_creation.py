import pytest

from localcloud.errors import ApiError
from localcloud.services.compute import creation


def test_spot_and_standard_get_their_defaults() -> None:
    spot = creation.scheduling({"provisioningModel": "SPOT"})
    assert spot == {
        "provisioningModel": "SPOT",
        "preemptible": True,
        "automaticRestart": False,
        "onHostMaintenance": "TERMINATE",
        "instanceTerminationAction": "STOP",
    }
    standard = creation.scheduling({})
    assert (standard["provisioningModel"], standard["automaticRestart"]) == ("STANDARD", True)
    assert "instanceTerminationAction" not in standard
    assert creation.scheduling({"preemptible": True})["provisioningModel"] == "SPOT"


@pytest.mark.parametrize(
    "given",
    [
        {"provisioningModel": "SPOT", "automaticRestart": True},
        {"provisioningModel": "SPOT", "onHostMaintenance": "MIGRATE"},
        {"instanceTerminationAction": "STOP"},
        {"preemptionNoticeDuration": {"seconds": "120"}},
    ],
)
def test_schedulings_that_contradict_themselves(given: dict[str, object]) -> None:
    with pytest.raises(ApiError):
        creation.scheduling(given)


def test_metadata_keys_are_unique_and_its_fingerprint_follows_it() -> None:
    one = creation.metadata({"items": [{"key": "a", "value": "1"}], "fingerprint": "old="})
    two = creation.metadata({"items": [{"key": "a", "value": "2"}]})
    assert one["fingerprint"] not in ("old=", two["fingerprint"])
    with pytest.raises(ApiError):
        creation.metadata({"items": [{"key": "a"}, {"key": "a"}]})
    with pytest.raises(ApiError):
        creation.metadata({"items": [{"key": "a b"}]})


def test_an_address_is_shown_and_taken_away() -> None:
    body: dict[str, object] = {"networkInterfaces": [{"accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}]}
    creation.show_address(body, "10.0.0.10")
    access = [{"type": "ONE_TO_ONE_NAT", "natIP": "10.0.0.10"}]
    assert body == {"networkInterfaces": [{"networkIP": "10.0.0.10", "accessConfigs": access}]}
    creation.show_address(body, "")
    assert body == {"networkInterfaces": [{"accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}]}
