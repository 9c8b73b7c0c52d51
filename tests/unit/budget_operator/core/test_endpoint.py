"""Where callers reach a deployment: names, addresses, and what is refused before anything is paid for."""

from dataclasses import replace
from typing import Any

import pytest

from budget_operator.core.api import parse_spec
from budget_operator.core.endpoint import Tls, kept, tls_of
from budget_operator.core.errors import InvalidSpec
from budget_operator.core.settings import Settings

SETTINGS = Settings("p", ("us-central1-a",), "bucket", "r/s:1")
ACME = replace(
    SETTINGS,
    tls_mode="Acme",
    acme_email="ops@acme.test",
    acme_directory="https://ca.test/dir",
    acme_ca_bundle="PEM",
)
BUNDLE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def spec(**endpoint: Any) -> Any:
    return parse_spec({"predictor": {"inline": "class Predictor: pass"}, "endpoint": endpoint})


def test_what_is_left_out_comes_from_the_installation() -> None:
    assert tls_of(SETTINGS, spec()) == Tls("Internal")
    assert tls_of(ACME, spec()) == Tls("Acme", "", "ops@acme.test", "https://ca.test/dir", "PEM")
    own = spec(host="M.Models.Test.", tls={"mode": "Acme", "email": "me@models.test"})
    assert tls_of(SETTINGS, own) == Tls("Acme", "m.models.test", "me@models.test")


def test_a_directory_of_ones_own_is_not_trusted_by_the_installations_bundle() -> None:
    own = spec(tls={"directory": "https://other.test/dir"})
    assert tls_of(ACME, own).ca_bundle == ""
    with_bundle = spec(tls={"directory": "https://other.test/dir", "caBundle": BUNDLE})
    assert tls_of(ACME, with_bundle).ca_bundle == BUNDLE


@pytest.mark.parametrize("mode", ["Internal", "Off"])
@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        ({"host": "m.test"}, "host"),
        ({"tls": {"email": "me@models.test"}}, "tls.email"),
        ({"tls": {"directory": "https://ca.test/dir"}}, "tls.directory"),
        ({"tls": {"caBundle": BUNDLE}}, "tls.caBundle"),
    ],
)
def test_what_a_mode_would_ignore_is_refused(mode: str, endpoint: dict[str, Any], field: str) -> None:
    given = endpoint | {"tls": {**endpoint.get("tls", {}), "mode": mode}}
    with pytest.raises(InvalidSpec, match=rf"spec.endpoint.{field} is of use with .* Acme only"):
        tls_of(ACME, spec(**given))


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        ({"host": "*.models.test"}, "spec.endpoint.host"),
        ({"host": "https://m.test:8443/"}, "spec.endpoint.host"),
        ({"host": "m.test:8443"}, "spec.endpoint.host"),
        ({"host": "bücher.test"}, "xn--"),
        ({"host": "localhost"}, "spec.endpoint.host"),
        ({"host": "10.0.0.1"}, "spec.endpoint.host"),
        ({"host": ""}, "spec.endpoint.host"),
        ({"tls": {"mode": "Acme", "email": "you@example.com"}}, "placeholder"),
        ({"tls": {"mode": "Acme", "email": "you@mail.EXAMPLE.org"}}, "placeholder"),
        ({"tls": {"mode": "Acme", "email": "you"}}, "spec.endpoint.tls.email"),
        ({"tls": {"mode": "Acme", "directory": "ca.test"}}, "directory"),
        ({"tls": {"mode": "Acme", "caBundle": "MIIB"}}, "caBundle"),
        ({"tls": {"mode": "acme"}}, "mode"),
    ],
)
def test_what_no_authority_would_take_is_refused_by_name(endpoint: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpec, match=field.replace(".", r"\.")):
        spec(**endpoint)


@pytest.mark.parametrize("host", ["m.models.test", "M.Models.Test.", "xn--bcher-kva.test", "a-1.b2.co"])
def test_ordinary_names_are_taken(host: str) -> None:
    assert tls_of(ACME, spec(host=host)).host == host.lower().removesuffix(".")


@pytest.mark.parametrize(
    ("tls", "told", "url"),
    [
        (Tls(), "", "https://203.0.113.7"),
        (Tls("Off"), "", "http://203.0.113.7"),
        (Tls("Acme"), "", "https://203-0-113-7.sslip.io"),
        (Tls("Acme"), "203.0.113.7", "https://203.0.113.7"),
        (Tls("Acme"), "evil.test", "https://203-0-113-7.sslip.io"),
        (Tls("Acme", "m.test"), "", "https://m.test"),
        (Tls("Acme", "m.test"), "203.0.113.7", "https://m.test"),
    ],
)
def test_the_name_a_vm_tells_counts_only_where_it_may_be_one(tls: Tls, told: str, url: str) -> None:
    assert tls.url("203.0.113.7", told) == url


@pytest.mark.parametrize(
    ("url", "ca", "tls"),
    [
        ("", "", Tls()),
        ("https://203.0.113.7", "PEM", Tls()),
        ("http://203.0.113.7", "", Tls("Off")),
        ("https://m.test", "PEM", Tls("Acme", "m.test", ca_bundle="PEM")),
        ("https://203.0.113.7", "", Tls("Acme", "203.0.113.7")),
    ],
)
def test_a_spec_that_cannot_be_read_leaves_the_endpoint_as_it_is(url: str, ca: str, tls: Tls) -> None:
    assert kept(url, ca) == tls
    assert not url or kept(url, ca).url("203.0.113.7") == url
