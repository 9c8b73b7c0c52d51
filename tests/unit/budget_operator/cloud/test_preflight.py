"""Whose credentials preflight shows itself with; what it reads with them is in the contract tests."""

from dataclasses import dataclass
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.oauth2.credentials import Credentials as UserCredentials

from budget_operator.cloud.connection import Connection
from budget_operator.cloud.preflight import Google
from budget_operator.core.errors import PermissionDenied, Unavailable
from budget_operator.core.preflight.facts import Caller


@dataclass(frozen=True)
class Given(Connection):
    """With these credentials."""

    given: Any = None

    def google_credentials(self) -> Any:
        return self.given


def user(**more: Any) -> Any:
    return UserCredentials("token", **more)  # type: ignore[no-untyped-call]


def test_the_calls_of_people_are_counted_for_the_project_unless_they_say_another() -> None:
    assert Google(Given("p1", given=user())).credentials.quota_project_id == "p1"
    told = user(quota_project_id="p2")
    assert Google(Given("p1", given=told)).credentials.quota_project_id == "p2"


def test_nobody_has_no_token() -> None:
    nobody = AnonymousCredentials()  # type: ignore[no-untyped-call]
    assert Google(Given("p1", given=nobody)).caller() == Caller("nobody")


def test_people_whose_login_has_ended_are_refused_and_not_taken_for_nobody() -> None:
    with pytest.raises(PermissionDenied):
        Google(Given("p1", given=user())).caller()


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    nobody = AnonymousCredentials()  # type: ignore[no-untyped-call]
    with pytest.raises(Unavailable):
        Google(Given("p1", "http://127.0.0.1:9", given=nobody)).ask("compute", "compute/v1/projects/p1")
