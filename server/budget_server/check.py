"""`budget-server check PATH`: a predictor run as the server would run it, on this machine, without a cloud.

The same import, load, inputs and answers as behind the routes (`predictor`, `inputs`, `results`); no login,
no limits, no sockets. The answer goes to stdout, everything else to stderr.
"""

import argparse
import asyncio
import contextlib
import inspect
import json
import math
import mimetypes
import os
import re
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from budget_server import images
from budget_server.batching import Batcher
from budget_server.errors import BudgetServerError, CallerError, LoadFailed
from budget_server.inputs import PredictRequest, dict_payload, image_upload, parse_json, upright
from budget_server.predictor import Answer, PredictorHost, user_traceback
from budget_server.results import Encoded
from budget_server.streaming import Stream

OK, BROKEN, USAGE, INTERRUPTED = 0, 1, 2, 130
THREADS = 4
SHARERS = 3
"""Calls that are made at once to see whether predict_batch agrees with predict."""

_ENTRYPOINT = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
_TEXT = ("text/", "application/x-ndjson")

Given = Callable[[], Awaitable[Any]]


class UsageError(BudgetServerError):
    """The command line, or what it names, is not what this command takes."""


class Broken(BudgetServerError):
    """The predictor failed; the message is what its author should see."""


@dataclass(frozen=True)
class Target:
    """Which class is run, and from where."""

    code_dir: Path
    entrypoint: str


@dataclass(frozen=True)
class Said:
    """An answer as a client would have received it."""

    body: bytes
    media_type: str
    status: int = 200

    def shown(self) -> str:
        """What a person reads: JSON and text as they are, of everything else its type and size."""
        prefix = "" if self.status == 200 else f"status {self.status}: "
        if self.media_type == "application/json":
            return prefix + json.dumps(json.loads(self.body), indent=2, ensure_ascii=False)
        if self.media_type.startswith(_TEXT):
            return prefix + self.body.decode("utf-8", "replace").rstrip("\n")
        return f"{prefix}{self.media_type}, {len(self.body)} bytes"


class CheckedHost(PredictorHost):
    """The server's host, but what the predictor raises is told in full: here its author is the caller."""

    shares = False
    """Whether there is a predict_batch."""
    together = ""
    """The traceback of the first call of predict_batch with several items that raised."""

    def __init__(self, entrypoint: str, code_dir: Path, threads: int) -> None:
        super().__init__(entrypoint, code_dir, threads)
        self.batches: list[int] = []

    def failure(self, error: BaseException, given: object) -> BaseException:
        if isinstance(error, CallerError | HTTPException | asyncio.CancelledError):
            return super().failure(error, given)
        return Broken(user_traceback(error))

    def _batcher(self, predict_batch: Callable[[list[Any]], Any]) -> Batcher:
        self.shares = True
        if inspect.iscoroutinefunction(predict_batch):

            async def on_loop(items: list[Any]) -> Any:
                with self._noting(items):
                    return await predict_batch(items)

            return super()._batcher(on_loop)

        def in_thread(items: list[Any]) -> Any:
            with self._noting(items):
                return predict_batch(items)

        return super()._batcher(in_thread)

    @contextlib.contextmanager
    def _noting(self, items: list[Any]) -> Iterator[None]:
        self.batches.append(len(items))
        try:
            yield
        except BaseException as error:
            self.together = self.together or user_traceback(error)
            raise


def target(path: Path, entrypoint: str | None) -> Target:
    """What PATH and --entrypoint mean."""
    if path.is_dir():
        found = Target(path.resolve(), entrypoint or "predictor:Predictor")
    elif path.is_file() and path.suffix == ".py":
        found = Target(path.resolve().parent, entrypoint or f"{path.stem}:Predictor")
    else:
        raise UsageError(f"{path} is neither a folder nor a .py file.")
    if not _ENTRYPOINT.fullmatch(found.entrypoint):
        raise UsageError(f"{found.entrypoint} is not of the form module:Class; say --entrypoint.")
    return found


def payload_given(text: str, route: str | None) -> Given:
    """--payload, made into what the route hands to predict."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--payload: {error}") from None
    try:
        payload = parse_json(text.encode())
    except CallerError as error:
        raise UsageError(f"--payload: {error.detail}") from None
    body = b'{"payload":%s}' % text.encode()
    if route is None:
        route = "predict_dict" if isinstance(payload, dict) else "predict"

    async def whole() -> Any:
        return PredictRequest(_scope("/predict", "application/json"), _receiving(body), body)

    async def entries() -> Any:
        return dict_payload(body)

    return whole if route == "predict" else entries


def image_given(path: Path) -> Given:
    """--file, made into the upload that /predict_image hands to predict."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--file: {error}") from None
    scope = _scope("/predict_image", mimetypes.guess_type(path.name)[0] or "application/octet-stream")

    async def upload() -> Any:
        received = await image_upload(PredictRequest(scope, _receiving(data), data))
        return await asyncio.to_thread(upright, received, images.normalised)

    return upload


def _scope(path: str, media_type: str) -> Scope:
    headers = [(b"host", b"localhost"), (b"content-type", media_type.encode())]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 0),
        "server": ("localhost", 80),
    }


def _receiving(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def said(answer: Answer) -> Said:
    """The whole of it, also of one that comes in pieces."""
    if isinstance(answer, Encoded):
        return Said(answer.body, answer.media_type.decode())
    if isinstance(answer, Stream):
        try:
            body = b"".join([chunk async for chunk in answer.chunks])
        except Exception as error:
            raise Broken(user_traceback(error)) from None
        return Said(body, answer.media_type.decode())
    return await _sent(answer)


async def _sent(response: Response) -> Said:
    """What the user's own response sends."""
    pieces: list[bytes] = []

    async def send(message: Message) -> None:
        pieces.append(message.get("body", b""))

    async def receive() -> Message:
        await asyncio.Event().wait()  # nobody hangs up
        raise AssertionError

    try:
        await response(_scope("/predict", "application/json"), receive, send)
    except Exception as error:
        raise Broken(user_traceback(error)) from None
    media_type = response.headers.get("content-type", "application/octet-stream").partition(";")[0]
    return Said(b"".join(pieces), media_type, response.status_code)


def agree(one: Any, other: Any) -> bool:
    """Whether two answers are the same but for what rounding does to numbers that are computed together."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(agree(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(agree, one, other))
    if type(one) in (int, float) and type(other) in (int, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)
    return type(one) is type(other) and bool(one == other)


def _same(one: Said, other: Said) -> bool:
    if one.media_type == other.media_type == "application/json":
        return agree(orjson.loads(one.body), orjson.loads(other.body))
    return one == other


class Check:
    """One run of the command."""

    def __init__(self, what: Target, given: Given | None, repeat: int) -> None:
        self._what, self._given, self._repeat = what, given, repeat
        self._host = CheckedHost(what.entrypoint, what.code_dir, THREADS)

    async def run(self) -> Said | None:
        """Load and ask; the answer, if there was something to ask. Tells what it does on stderr."""
        await self._host.load()
        _tell(f"load     {self._host.load_seconds:.2f} s for {self._what.entrypoint}")
        if self._given is None:
            return None
        answer, seconds = await self._ask(self._given)
        _tell(f"predict  {_timing(seconds)}")
        if self._host.shares:
            await self._compare(answer, self._given)
        return answer

    async def _ask(self, given: Given) -> tuple[Said, list[float]]:
        seconds = []
        for _ in range(self._repeat):
            item = await _made(given)
            began = time.perf_counter()
            answer = await said(await self._host.predict(item))
            seconds.append(time.perf_counter() - began)
        return answer, seconds

    async def _compare(self, answer: Said, given: Given) -> None:
        items = [await _made(given) for _ in range(SHARERS)]
        began = time.perf_counter()
        answers = await asyncio.gather(*[self._host.predict_item(item) for item in items])
        seconds = time.perf_counter() - began
        shared = [await said(each) for each in answers]
        if self._host.batches != [SHARERS]:  # the server has asked again, for each item alone
            why = self._host.together or "It does not return one result per input."
            raise Broken(f"predict_batch fails for {SHARERS} items together:\n{why}")
        different = [each for each in shared if not _same(answer, each)]
        if not different:
            _tell(f"batch    {seconds * 1000:.2f} ms for {SHARERS}; predict_batch agrees with predict")
        elif not _same(answer, (await self._ask(given))[0]):
            _tell("batch    not compared: predict itself answers differently every time")
        else:
            raise Broken(f"predict_batch answers differently from predict:\n{different[0].shown()}")


async def _made(given: Given) -> Any:
    try:
        return await given()
    except CallerError as error:
        raise UsageError(error.detail) from None


def _timing(seconds: list[float]) -> str:
    least, median, most = (1000 * f(seconds) for f in (min, statistics.median, max))
    if len(seconds) == 1:
        return f"{median:.2f} ms"
    return f"min {least:.2f} ms, median {median:.2f} ms, max {most:.2f} ms of {len(seconds)}"


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("is less than 1")
    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("budget-server", description="The model server of BudgetML deployments.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="run a predictor on this machine, as the server would")
    check.add_argument("path", type=Path, metavar="PATH", help="a folder with predictor.py, or a .py file")
    check.add_argument("--entrypoint", metavar="MODULE:CLASS", help="default: Predictor of PATH")
    what = check.add_mutually_exclusive_group()
    what.add_argument("--payload", metavar="JSON|@FILE", help='the value of "payload" in the request')
    what.add_argument("--file", type=Path, metavar="IMAGE", help="an image, as /predict_image hands it over")
    check.add_argument(
        "--route",
        choices=("predict", "predict_dict"),
        help="how --payload is handed over; default: predict_dict for an object, else predict",
    )
    check.add_argument("--repeat", type=_count, default=1, metavar="N", help="ask N times, for the timing")
    check.add_argument("--output", type=Path, metavar="FILE", help="write the answer's body here")
    return parser


def _given(arguments: argparse.Namespace) -> Given | None:
    if arguments.payload is not None:
        return payload_given(arguments.payload, arguments.route)
    return image_given(arguments.file) if arguments.file else None


def _run(arguments: argparse.Namespace) -> None:
    what = target(arguments.path, arguments.entrypoint)
    check = Check(what, _given(arguments), arguments.repeat)
    output = arguments.output.resolve() if arguments.output else None
    os.chdir(what.code_dir)  # as on the VM, where relative file names mean the code's folder
    with contextlib.redirect_stdout(sys.stderr):  # what the predictor prints
        answer = asyncio.run(check.run())
    if answer is None:
        return
    if output is None:
        sys.stdout.write(answer.shown() + "\n")
        return
    try:
        output.write_bytes(answer.body)
    except OSError as error:
        raise UsageError(f"--output: {error}") from None
    sys.stdout.write(f"{answer.media_type}, {len(answer.body)} bytes in {output}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    try:
        _run(_parser().parse_args(arguments))
    except LoadFailed as failure:
        _tell(failure.log or failure.message)
        return BROKEN
    except UsageError as error:
        _tell(f"budget-server check: {error}")
        return USAGE
    except CallerError as error:
        _tell(f"{error.code}: {error.detail}")
        return BROKEN
    except Broken as error:
        _tell(str(error))
        return BROKEN
    except KeyboardInterrupt:
        return INTERRUPTED
    return OK


if __name__ == "__main__":
    # The predictor's names are lent to __main__, where they must not replace ours.
    from budget_server.check import main as imported

    sys.exit(imported())
