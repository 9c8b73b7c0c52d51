"""The environment becomes settings; everything wrong is named at once."""

from pathlib import Path

import pytest

from budget_operator.core.settings import COS_IMAGE, Settings, SettingsError

GOOD = {
    "BUDGET_PROJECT": "proj",
    "BUDGET_ZONES": "us-central1-a, us-central1-b",
    "BUDGET_BUCKET": "my-bucket",
    "BUDGET_IMAGE": "registry/server:1",
}


@pytest.fixture
def good(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "main.py").write_text("")
    return {**GOOD, "BUDGET_FUNCTION_SOURCE": str(tmp_path)}


def test_defaults(good: dict[str, str]) -> None:
    settings = Settings.from_environment(good)
    assert settings.zones == ("us-central1-a", "us-central1-b")
    assert settings.region == "us-central1"
    assert not settings.takeover
    assert (settings.installation, settings.vm_image) == ("default", COS_IMAGE)
    assert (settings.api_endpoint, settings.credentials) == ("", "adc")
    assert (settings.schedule, settings.time_zone) == ("* * * * *", "Etc/UTC")
    assert (settings.system_namespace, settings.health_port) == ("budgetml-system", 8080)
    assert settings.prices is None
    assert settings.logs_command.format(name="n", project="p", zone="z").startswith("gcloud logging read")


def test_everything_can_be_set(good: dict[str, str]) -> None:
    settings = Settings.from_environment(
        {
            **good,
            "BUDGET_INSTALLATION": "team",
            "BUDGET_API_ENDPOINT": "http://10.0.0.1:8085/",
            "BUDGET_CREDENTIALS": "anonymous",
            "BUDGET_VM_SERVICE_ACCOUNT": "vm@p",
            "BUDGET_HEALTH_PORT": "9000",
            "BUDGET_SCHEDULER_LOCATION": "europe-west1",
            "BUDGET_LOGS_COMMAND": "logs {name}",
            "BUDGET_TAKEOVER": "true",
            "BUDGET_PRICES": f"{good['BUDGET_FUNCTION_SOURCE']}/main.py",
            "POD_NAMESPACE": "ops",
        }
    )
    assert settings.api_endpoint == "http://10.0.0.1:8085"
    assert settings.credentials == "anonymous"
    assert (settings.installation, settings.vm_service_account) == ("team", "vm@p")
    assert (settings.health_port, settings.system_namespace) == (9000, "ops")
    assert settings.logs_command == "logs {name}"
    assert settings.takeover
    assert settings.prices is not None
    assert (settings.scheduler_location, settings.region) == ("europe-west1", "us-central1")


def test_every_missing_variable_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({})
    assert all(name in str(caught.value) for name in GOOD)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BUDGET_PROJECT", "No Spaces"),
        ("BUDGET_ZONES", "us-central1"),
        ("BUDGET_ZONES", "us-central1-a,us-east1-b"),
        ("BUDGET_ZONES", ","),
        ("BUDGET_BUCKET", "UPPER"),
        ("BUDGET_SCHEDULER_LOCATION", "Europe"),
        ("BUDGET_INSTALLATION", "Not Good"),
        ("BUDGET_API_ENDPOINT", "10.0.0.1:8085"),
        ("BUDGET_CREDENTIALS", "key.json"),
        ("BUDGET_SCHEDULE", "every minute"),
        ("BUDGET_FUNCTION_RUNTIME", "nodejs20"),
        ("BUDGET_FUNCTION_SOURCE", "/nowhere"),
        ("BUDGET_TAKEOVER", "yes"),
        ("BUDGET_HEALTH_PORT", "0"),
        ("BUDGET_HEALTH_PORT", "http"),
        ("BUDGET_PRICES", "/nowhere"),
        ("BUDGET_LOGS_COMMAND", "logs {vm}"),
        ("BUDGET_LOGS_COMMAND", "logs {name"),
    ],
)
def test_a_wrong_value_names_its_variable(good: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: "):
        Settings.from_environment({**good, name: value})
