"""The environment of process 1."""

from pathlib import Path

from budget_server.vm.settings import Settings


def test_a_vm_needs_no_settings() -> None:
    settings = Settings.from_environ({})
    assert settings == Settings()
    assert (settings.https_port, settings.http_port) == (443, 80)
    assert settings.predictor_user == "predictor"


def test_what_is_given_counts() -> None:
    settings = Settings.from_environ(
        {
            "GCE_METADATA_HOST": "h:1",
            "BUDGET_STATE_DIR": "/s",
            "BUDGET_PREDICTOR_USER": "",
            "BUDGET_HTTPS_PORT": "8443",
            "BUDGET_BOOT_ENGINE": "0.40",
            "BUDGET_BOOT_PULL": "soon",
        }
    )
    assert settings.metadata_host == "h:1"
    assert settings.environments == Path("/s/environments")
    assert settings.predictor_user == ""
    assert settings.https_port == 8443
    assert settings.host_seconds == (("engine", 0.4),), "what is no number is left out"
