"""The part of Compute Engine's client that is imported, and the whole of it, are the same."""

import subprocess
import sys

FIRST_OURS = """
import sys
from budget_operator.cloud import compute_client
assert "google.cloud.compute_v1.services.url_maps" not in sys.modules, "one of the others"
from google.cloud import compute_v1
"""
FIRST_ALL = """
from google.cloud import compute_v1
from budget_operator.cloud import compute_client
"""
SAME = """
for name in compute_client.__all__:
    assert getattr(compute_client, name) is getattr(compute_v1, name), name
assert compute_v1.Instance is compute_client.types.Instance
assert compute_v1.UrlMapsClient
"""


def test_ours_before_the_whole() -> None:
    subprocess.run([sys.executable, "-c", FIRST_OURS + SAME], check=True, timeout=120)


def test_the_whole_before_ours() -> None:
    subprocess.run([sys.executable, "-c", FIRST_ALL + SAME], check=True, timeout=120)
