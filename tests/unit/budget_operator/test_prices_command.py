"""`budget-operator prices refresh`: pages of a catalog on this machine become a file that `plan` reads."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from budget_operator.main import app
from dev.paths import ROOT

COMPUTE, NETWORK = "6F81-5844-456A", "E505-1604-58F8"
IRIS = str(ROOT / "examples" / "iris" / "deployment.yaml")


def sku(description: str, nanos: int, unit: str, usage: str = "OnDemand") -> dict[str, Any]:
    price = {"startUsageAmount": 0, "unitPrice": {"currencyCode": "USD", "units": "0", "nanos": nanos}}
    return {
        "description": description,
        "category": {"resourceFamily": "Compute", "usageType": usage},
        "serviceRegions": ["us-central1"],
        "pricingInfo": [{"pricingExpression": {"usageUnit": unit, "tieredRates": [price]}}],
    }


def machines() -> list[dict[str, Any]]:
    parts = (("Core", 20_000_000, "h"), ("Ram", 3_000_000, "GiBy.h"))
    found = []
    for part, nanos, unit in parts:
        text = f"E2 Instance {part} running in Americas"
        found += [sku(text, nanos, unit), sku(f"Spot Preemptible {text}", nanos // 2, unit, "Preemptible")]
    return found


@dataclass
class Catalog:
    """What each service's pages hold, and what was asked for."""

    pages: dict[str, list[list[dict[str, Any]]]]
    status: int = 200
    asked: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    disk = [sku("Balanced PD Capacity", 100_000_000, "GiBy.mo")]
    used = [
        sku("External IP Charge on a Standard VM", 5_000_000, "h"),
        sku("External IP Charge on a Spot Preemptible VM", 2_500_000, "h"),
        sku("Static Ip Charge", 10_000_000, "h"),
    ]
    held = Catalog({COMPUTE: [machines(), disk], NETWORK: [used]})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            held.asked.append(self.path)
            number = int(query.get("pageToken", "0"))
            pages = held.pages[url.path.split("/")[3]]
            more = str(number + 1) if number + 1 < len(pages) else ""
            body = json.dumps({"skus": pages[number], "nextPageToken": more}).encode()
            self.send_response(held.status)
            self.end_headers()
            self.wfile.write(body if held.status == 200 else b"SERVICE_DISABLED")

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        held.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield held
        server.shutdown()


def refresh(catalog: Catalog, file: Path) -> Any:
    options = ["--output", str(file), "--endpoint", catalog.url, "--credentials", "anonymous"]
    return CliRunner().invoke(app, ["prices", "refresh", *options])


def test_every_page_of_both_services_is_read_and_plan_uses_them(catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    told = refresh(catalog, file)
    assert (told.exit_code, told.stdout) == (0, f"{file}: 1 regions\n"), told.stderr
    assert [url.split("?")[0].split("/")[3] for url in catalog.asked] == [COMPUTE, COMPUTE, NETWORK]
    assert all("currencyCode=USD" in url for url in catalog.asked)
    planned = CliRunner().invoke(app, ["plan", "-f", IRIS, "--zones", "us-central1-a", "--prices", str(file)])
    assert planned.exit_code == 0, planned.stderr
    machine = (0.010 + 4 * 0.0015) * 730
    assert f"machine     {machine:8.2f}" in planned.stdout
    assert "from Google's Cloud Billing Catalog" in planned.stdout
    assert "WARNING" not in planned.stdout


@pytest.mark.parametrize(("status", "said"), [(403, "gcloud services enable"), (500, "answered 500")])
def test_a_catalog_that_refuses_leaves_the_file_as_it_was(
    catalog: Catalog, tmp_path: Path, status: int, said: str
) -> None:
    file = tmp_path / "prices.json"
    file.write_text("before")
    catalog.status = status
    told = refresh(catalog, file)
    assert (told.exit_code, file.read_text()) == (1, "before")
    assert said in told.stderr


def test_a_catalog_without_known_prices_writes_nothing(catalog: Catalog, tmp_path: Path) -> None:
    catalog.pages = {COMPUTE: [[]], NETWORK: [[]]}
    told = refresh(catalog, tmp_path / "prices.json")
    assert told.exit_code == 1
    assert "nothing was written" in told.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{}", '{"as_of": "yesterday"}'])
def test_a_file_that_holds_no_prices_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    told = CliRunner().invoke(app, ["plan", "-f", IRIS, "--zones", "us-central1-a", "--prices", str(file)])
    assert told.exit_code == 1
    assert "--prices: this is no list of prices" in told.stderr
