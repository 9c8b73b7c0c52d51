"""Google's Cloud Billing Catalog, page after page. What its prices mean is in `core.prices`."""

from collections.abc import Iterator
from typing import Any

from google.auth.transport.requests import AuthorizedSession
from pydantic import ValidationError
from requests.exceptions import RequestException

from budget_operator.cloud.connection import CONNECT_SECONDS, READ_SECONDS, Connection
from budget_operator.core.errors import BudgetError, PermissionDenied, Unavailable
from budget_operator.core.prices.skus import Sku

GOOGLE = "https://cloudbilling.googleapis.com"
SERVICES = ("6F81-5844-456A", "E505-1604-58F8")  # Compute Engine; Networking, which has the addresses
PAGE = 5000


def skus(connection: Connection) -> Iterator[Sku]:
    """Every SKU of these services.

    Raises:
        PermissionDenied: no credentials, or they may not.
        Unavailable: the catalog does not answer, or with something else.
    """
    session = AuthorizedSession(connection.google_credentials())  # type: ignore[no-untyped-call]
    for service in SERVICES:
        token = ""
        while True:
            page = _page(session, connection.endpoint.rstrip("/") or GOOGLE, service, token)
            try:
                yield from [Sku.model_validate(each) for each in page.get("skus", ())]
            except ValidationError as error:
                raise Unavailable(f"the billing catalog answers with something else: {error}") from error
            token = page.get("nextPageToken", "")
            if not token:
                break


def _page(session: AuthorizedSession, base: str, service: str, token: str) -> dict[str, Any]:
    url = f"{base}/v1/services/{service}/skus"
    query = {"currencyCode": "USD", "pageSize": str(PAGE), **({"pageToken": token} if token else {})}
    try:
        answer = session.get(url, params=query, timeout=(CONNECT_SECONDS, READ_SECONDS))
        if answer.status_code == 200:
            return dict(answer.json())
    except (RequestException, ValueError) as error:
        raise Unavailable(f"the billing catalog does not answer: {error}") from error
    raise _failure(answer.status_code, answer.text)


def _failure(status: int, body: str) -> BudgetError:
    said = f"the billing catalog answered {status}: {body[:300]}"
    if status in (401, 403):
        return PermissionDenied(
            said, remedy="enable the API: gcloud services enable cloudbilling.googleapis.com"
        )
    return Unavailable(said)
