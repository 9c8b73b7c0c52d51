"""What more than one client sends, and where its resources lie."""

import io
import zipfile
from typing import Any

PROJECT = "p1"
ZONE = "us-central1-a"
REGION = "us-central1"
PARENT = f"projects/{PROJECT}/locations/{REGION}"
FUNCTION = """
def main(event):
    print("seen", event["type"])
"""
REQUIREMENTS = "functions-framework>=3.10,<4\n"


def spot_instance(name: str, **fields: Any) -> dict[str, Any]:
    """An `instances.insert` body like the operator's; keyword arguments replace fields."""
    return {
        "name": name,
        "machineType": f"zones/{ZONE}/machineTypes/e2-medium",
        "labels": {"budgetml-installation": "abc"},
        "tags": {"items": ["budget-abc"]},
        "scheduling": {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "STOP",
            "onHostMaintenance": "TERMINATE",
            "automaticRestart": False,
        },
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "initializeParams": {
                    "sourceImage": "projects/cos-cloud/global/images/family/cos-stable",
                    "diskSizeGb": "20",
                },
            }
        ],
        "networkInterfaces": [
            {
                "network": "global/networks/default",
                "accessConfigs": [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}],
            }
        ],
        "metadata": {"items": [{"key": "enable-guest-attributes", "value": "TRUE"}]},
    } | fields


def archive(main: str = FUNCTION) -> bytes:
    """The source of a function, as it is uploaded."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("main.py", main)
        opened.writestr("requirements.txt", REQUIREMENTS)
    return buffer.getvalue()
