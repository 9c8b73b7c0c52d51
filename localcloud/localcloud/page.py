"""The page for people at `/`: what exists, what it costs, what happened last, and buttons for bad days.

Plain HTML made here, without scripts. Guests ask `/` too, to see whether this is a metadata server; who does
not want HTML gets that answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from localcloud import metadata
from localcloud.context import Context, Event, Resource
from localcloud.errors import ApiError, invalid
from localcloud.faults import AnyFault, parse
from localcloud.services.compute import prices

ACTIONS = "/_localcloud/page"
_EVENTS = 15
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd }
form { display: inline } button { font: inherit; padding: .1rem .6rem } code { font-size: .9em }
"""


def routes(context: Context) -> list[BaseRoute]:
    page = Page(context)
    return [
        Route("/", page.show, methods=["GET"]),
        Route(f"{ACTIONS}/{{action}}", page.act, methods=["POST"]),
    ]


class Page:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def show(self, request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return metadata.recognised()
        return HTMLResponse(await self._context.blocking.run(self._html))

    async def act(self, request: Request) -> Response:
        """A button: does it and shows the page again. Only the page's own buttons count."""
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return PlainTextResponse("Only this page's own buttons do that.\n", status_code=403)
        form = {name: str(value) for name, value in (await request.form()).items()}
        try:
            await self._context.blocking.run(self._do, request.path_params["action"], form)
        except ApiError as error:
            return PlainTextResponse(f"{error.message}\n", status_code=error.code)
        return RedirectResponse("/", status_code=303)

    def _do(self, action: str, form: dict[str, str]) -> None:
        context = self._context
        if action == "preempt":
            context.registry.verbs["preempt"](form.get("name", ""))
        elif action == "stock-out":
            if not form.get("zone"):
                raise invalid("The button names no zone.")
            fault = parse({"kind": "stock-out", "zone": form["zone"]})
            context.faults.add(fault, context.clock.now())
        elif action == "remove":
            context.faults.remove(form.get("id", ""))
        else:
            raise ApiError(404, "notFound", f"There is no button {action}")

    def _html(self) -> str:
        registry = self._context.registry
        lines = sorted(
            (line for lister in registry.listers for line in lister()),
            key=lambda line: (line.kind, line.name, line.location),
        )
        events = sorted(
            (event for source in registry.events for event in source()), key=lambda each: each.time
        )
        faults = self._context.faults.all()
        body = "".join(
            (
                f"<h1>Local cloud</h1><p>{_sum(lines)}</p>",
                _resources(lines),
                _stock(lines, faults),
                _faults(faults),
                _events(events[-_EVENTS:]),
            )
        )
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Local cloud</title>'
            f'<meta http-equiv="refresh" content="5"><style>{_STYLE}</style></head><body>{body}</body></html>'
        )


def _sum(lines: Iterable[Resource]) -> str:
    known = [line.hourly for line in lines]
    total = sum(hourly for hourly in known if hourly is not None)
    without = sum(hourly is None for hourly in known)
    more = f", and {without} without a known price" if without else ""
    return (
        f'All that exists would cost <b id="total">${total:.4f}</b> an hour at Google{more} '
        f"(list prices of {prices.AS_OF}, traffic not included)."
    )


def _resources(lines: Sequence[Resource]) -> str:
    if not lines:
        return "<p>Nothing exists.</p>"
    head = ("kind", "name", "where", "state", "$ an hour", "")
    return "<h2>What exists</h2>" + _table(head, [_resource(line) for line in lines])


def _resource(line: Resource) -> list[str]:
    button = ""
    if line.preemptible:
        button = _button("preempt", "preempt", name=line.name)
    price = "not known" if line.hourly is None else f"{line.hourly:.4f}" if line.hourly else ""
    words = [escape(word) for word in (line.kind, line.name, line.location, line.state)]
    return [*words, price, button]


def _stock(lines: Iterable[Resource], faults: Iterable[AnyFault]) -> str:
    """A button for each zone that has machines, and for none that is sold out already."""
    sold_out = {fault.zone for fault in faults if fault.kind == "stock-out"}
    zones = sorted({line.location for line in lines if line.kind == "instance"} - sold_out)
    buttons = " ".join(_button("stock-out", f"sell out {zone}", zone=zone) for zone in zones)
    return f"<h2>Stock</h2><p>{buttons}</p>" if buttons else ""


def _faults(faults: Iterable[AnyFault]) -> str:
    rows = [
        [
            escape(fault.kind),
            f"<code>{escape(fault.model_dump_json(exclude={'id', 'kind'}, exclude_defaults=True))}</code>",
            _button("remove", "remove", id=fault.id),
        ]
        for fault in faults
    ]
    return "<h2>What goes wrong on purpose</h2>" + _table(("kind", "fields", ""), rows) if rows else ""


def _events(events: Sequence[Event]) -> str:
    rows = [
        [escape(word) for word in (event.time, event.what, event.target, event.outcome)]
        for event in reversed(events)
    ]
    return (
        "<h2>What happened last</h2>" + _table(("time", "what", "of what", "outcome"), rows) if rows else ""
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells of `rows` are HTML."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def _button(action: str, text: str, **fields: Any) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{escape(str(value))}">' for name, value in fields.items()
    )
    return f'<form method="post" action="{ACTIONS}/{action}">{hidden}<button>{escape(text)}</button></form>'
