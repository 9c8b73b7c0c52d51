"""The page at `/`, with real resources, in a real headless browser."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.wait import WebDriverWait

from dev import engine, plain
from dev.conformance.bodies import REGION, ZONE
from dev.conformance.server import Cloud
from dev.paths import locked

PACKAGES = {"chromium": "chromium", "chromium-driver": "chromedriver"}
INSTANCES = f"zones/{ZONE}/instances"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    missing = [package for package, program in PACKAGES.items() if not shutil.which(program)]
    if missing:
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            pytest.skip(f"not on this machine: {', '.join(missing)}")
        with locked("apt"):
            engine.apt_install(*missing)
    os.environ |= {"SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(word)
    made = webdriver.Chrome(options, webdriver.ChromeService(str(shutil.which("chromedriver"))))
    yield made
    made.quit()


@pytest.fixture
def status(cloud: Cloud) -> Any:
    return lambda: cloud.compute("GET", f"{INSTANCES}/vm1").json()["status"]


def table(browser: webdriver.Chrome) -> dict[str, list[str]]:
    """The cells of what exists, by kind and name."""
    rows = browser.find_elements(By.CSS_SELECTOR, "table:first-of-type tbody tr")
    cells = [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]
    return {f"{kind} {name}": rest for kind, name, *rest in cells if len(rest) == 4}


def total(browser: webdriver.Chrome) -> float:
    return float(browser.find_element(By.ID, "total").text.lstrip("$"))


def see(browser: webdriver.Chrome, cloud: Cloud) -> None:
    browser.get(cloud.url)
    hold(browser)


def hold(browser: webdriver.Chrome) -> None:
    """Keep the page from loading itself anew, which would take away what a test has found on it."""
    browser.execute_script("window.stop()")


def press(browser: webdriver.Chrome, text: str) -> None:
    """Until the next page is there, whose reload is then off as well."""
    button = browser.find_element(By.XPATH, f"//button[normalize-space()='{text}']")
    button.click()
    WebDriverWait(browser, 60).until(staleness_of(button))
    hold(browser)


def test_an_empty_cloud_says_so(browser: webdriver.Chrome, cloud: Cloud) -> None:
    see(browser, cloud)
    assert browser.title == "Local cloud"
    assert "Nothing exists." in browser.page_source
    assert total(browser) == 0


def test_what_exists_is_shown_with_its_price_and_taken_away_by_a_button(
    browser: webdriver.Chrome, cloud: Cloud, spot_body: Any, status: Any, wait_until: Any
) -> None:
    cloud.compute("POST", f"regions/{REGION}/addresses", {"name": "ip1"})
    cloud.compute("POST", INSTANCES, spot_body())
    wait_until(lambda: status() == "RUNNING", "the VM")
    wait_until(lambda: cloud.compute("GET", f"regions/{REGION}/addresses/ip1").is_success, "the address")
    see(browser, cloud)
    shown = table(browser)
    assert shown["instance vm1"] == [ZONE, "RUNNING", "0.0226", "preempt"]
    assert shown["address ip1"] == [REGION, "RESERVED", "0.0100", ""]
    assert shown["disk vm1"] == [ZONE, "IN_USE", "0.0011", ""]
    assert total(browser) == pytest.approx(0.020106 + 0.0025 + 0.01 + 20 * 0.04 / 730, abs=1e-4)

    press(browser, "preempt")
    wait_until(lambda: status() == "TERMINATED", "the preemption")
    see(browser, cloud)
    assert table(browser)["instance vm1"] == [ZONE, "TERMINATED", "", ""]
    assert "compute.instances.preempted" in browser.page_source
    assert total(browser) == pytest.approx(0.01 + 20 * 0.04 / 730, abs=1e-4), "what lies there costs, too"


def test_a_zone_is_sold_out_and_has_machines_again_by_a_button(
    browser: webdriver.Chrome, cloud: Cloud, spot_body: Any, status: Any, wait_until: Any
) -> None:
    cloud.compute("POST", INSTANCES, spot_body())
    wait_until(lambda: status() == "RUNNING", "the VM")
    see(browser, cloud)
    press(browser, f"sell out {ZONE}")
    assert [fault["zone"] for fault in cloud.control("GET", "/faults")["faults"]] == [ZONE]
    press(browser, "preempt")
    wait_until(lambda: status() == "TERMINATED", "the preemption")
    cloud.compute("POST", f"{INSTANCES}/vm1/start")
    wait_until(lambda: status() == "TERMINATED", "the start to fail")
    see(browser, cloud)
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in browser.page_source
    press(browser, "remove")
    assert cloud.control("GET", "/faults") == {"faults": []}
    cloud.compute("POST", f"{INSTANCES}/vm1/start")
    wait_until(lambda: status() == "RUNNING", "the start")


def test_guests_still_find_a_metadata_server(cloud: Cloud) -> None:
    answer = plain.get(f"{cloud.url}/", headers={"Metadata-Flavor": "Google"})
    assert (answer.text, answer.headers["Metadata-Flavor"]) == ("computeMetadata/\n", "Google")


def test_a_page_elsewhere_cannot_press_the_buttons(
    cloud: Cloud, spot_body: Any, status: Any, wait_until: Any
) -> None:
    cloud.compute("POST", INSTANCES, spot_body())
    wait_until(lambda: status() == "RUNNING", "the VM")
    press_at = f"{cloud.url}/_localcloud/page/preempt"
    refused = plain.post(press_at, data={"name": "vm1"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert (refused.status_code, status()) == (403, "RUNNING")
    assert plain.post(press_at, data={"name": "nobody"}).status_code == 404


def test_names_are_text(cloud: Cloud) -> None:
    cloud.control("POST", "/faults", {"path": "<script>alert(1)</script>", "count": 0})
    page = plain.get(f"{cloud.url}/", headers={"Accept": "text/html"}).text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
