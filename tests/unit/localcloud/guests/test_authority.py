"""A guest's certificate, verified as the operator verifies it: by the authority alone, strictly."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from localcloud.guests.authority import Authority

NAMES = ("model.example.org", "127.77.0.10")


def shake_hands(server: ssl.SSLContext, ca: str, name: str) -> None:
    """A whole handshake in memory."""
    client = ssl.create_default_context(cadata=ca)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=name)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (asking, answering, asking, answering):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.kept_in(tmp_path / "guests", datetime.now(UTC))


@pytest.mark.parametrize("name", NAMES)
def test_a_guest_is_believed_under_each_of_its_names(authority: Authority, name: str) -> None:
    shake_hands(authority.context(NAMES), authority.certificate, name)


def test_a_guest_is_nobody_else(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake_hands(authority.context(NAMES), authority.certificate, "127.77.0.11")


def test_it_is_made_once_and_kept_for_its_owner_alone(authority: Authority, tmp_path: Path) -> None:
    again = Authority.kept_in(tmp_path / "guests", datetime.now(UTC))
    assert again.certificate == authority.certificate
    shake_hands(again.context(NAMES), authority.certificate, NAMES[0])
    assert (tmp_path / "guests" / "authority.key").stat().st_mode & 0o077 == 0
    assert sorted(file.name for file in (tmp_path / "guests").iterdir()) == [
        "authority.key",
        "authority.pem",
    ]


def test_what_was_half_made_is_made_again(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "guests" / "authority.pem").unlink()
    again = Authority.kept_in(tmp_path / "guests", datetime.now(UTC))
    assert again.certificate != authority.certificate
    shake_hands(again.context(NAMES), again.certificate, NAMES[0])


def test_a_certificate_is_made_once(authority: Authority) -> None:
    assert authority.context(NAMES) is authority.context(NAMES)
