"""Loading and asking the user's class; its failures are told as its own."""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from budget_server.errors import LoadFailed, NotEncodable, NotReady, PredictFailed, Refused
from budget_server.predictor import MAX_LOG_BYTES, MAX_MESSAGE, Answer, PredictorHost, report_failure
from budget_server.results import Encoded

Write = Callable[[str], Path]


def body_of(answer: Answer) -> bytes:
    assert isinstance(answer, Encoded)
    return answer.body


def ask(file: Path, given: object = None, threads: int = 2, entrypoint: str = "predictor:Predictor") -> Any:
    async def run() -> Any:
        host = PredictorHost(entrypoint, file.parent, threads)
        try:
            await host.load()
            return json.loads(body_of(await host.predict(given)))
        finally:
            host.close()

    return asyncio.run(run())


def test_plain_load_and_predict_share_the_one_thread(write_predictor: Write) -> None:
    file = write_predictor("""
        import threading
        class Predictor:
            def load(self): self.thread = threading.get_ident()
            def predict(self, request):
                assert threading.current_thread() is not threading.main_thread()
                return [request, self.thread == threading.get_ident()]
    """)
    assert ask(file, "x", threads=1) == ["x", True]


def test_async_load_and_predict_share_the_loop(write_predictor: Write) -> None:
    file = write_predictor("""
        import asyncio
        class Predictor:
            async def load(self): self.loop = asyncio.get_running_loop()
            async def predict(self, request): return self.loop is asyncio.get_running_loop()
    """)
    assert ask(file) is True


def test_a_plain_predict_that_returns_an_awaitable_is_awaited(write_predictor: Write) -> None:
    file = write_predictor("""
        class Predictor:
            def load(self): pass
            async def later(self, request): return request
            def predict(self, request): return self.later(request)
    """)
    assert ask(file, 5) == 5


def test_other_files_and_entrypoints(write_predictor: Write) -> None:
    file = write_predictor("")
    (file.parent / "model").mkdir()
    (file.parent / "model" / "words.py").write_text("WORD = 'hi'\n")
    (file.parent / "model" / "serving.py").write_text(
        "from model.words import WORD\nclass Greeter:\n"
        "    def load(self): self.word = WORD\n    def predict(self, request): return self.word\n"
    )
    assert ask(file, entrypoint="model.serving:Greeter") == "hi"


def test_a_pickle_that_remembers_main(write_predictor: Write) -> None:
    file = write_predictor("""
        import pickle
        def clean(s): return s.lower()
        class Predictor:
            def load(self): self.f = pickle.loads(b"c__main__\\nclean\\n.")
            def predict(self, request): return self.f(request["s"])
    """)
    assert ask(file, {"s": "ABC"}) == "abc"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nonesuch", "No module named 'nonesuch'"),
        ("def broken(:", "SyntaxError"),
        ("x = 1", "module predictor has no class Predictor"),
        ("class Predictor:\n    def predict(self, r): pass", "class Predictor has no method load"),
        ("class Predictor:\n    def load(self): pass", "class Predictor has no method predict"),
        ("class Predictor:\n    def __init__(self): self.x", "AttributeError"),
        ("class Predictor:\n    def load(self): exit(1)\n    def predict(self, r): pass", "SystemExit: 1"),
        (
            "class Predictor:\n    async def load(self): 1/0\n    def predict(self, r): pass",
            "ZeroDivisionError",
        ),
    ],
)
def test_a_failed_load_says_why(write_predictor: Write, source: str, message: str) -> None:
    file = write_predictor(source)

    async def load() -> PredictorHost:
        host = PredictorHost("predictor:Predictor", file.parent, 1)
        with pytest.raises(LoadFailed) as caught:
            await host.load()
        assert message in caught.value.message
        assert "predictor:Predictor" in caught.value.message
        with pytest.raises(NotReady, match="predictor:Predictor"):
            await host.predict(None)
        return host

    host = asyncio.run(load())
    assert host.state == "failed"
    assert message in host.reason


def test_a_failed_loads_log_is_the_users_traceback_without_our_frames(write_predictor: Write) -> None:
    file = write_predictor("""
        def read(name):
            raise FileNotFoundError(name)
        class Predictor:
            def load(self):
                read("weights.bin")
            def predict(self, request): pass
    """)
    with pytest.raises(LoadFailed) as caught:
        ask(file)
    lines = caught.value.log.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].strip().startswith(f'File "{file}", line 6, in load')
    assert lines[-1] == "FileNotFoundError: weights.bin"
    assert "budget_server" not in caught.value.log.replace(str(file), "")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise MemoryError", "OutOfMemory"),
        ("raise OSError(12, 'fork')", "OutOfMemory"),
        ("open('/dev/full', 'w').write('x' * 99999)", "DiskFull"),
        ("raise OSError(122, 'quota')", "DiskFull"),
        ("raise OSError(2, 'no file')", "LoadFailed"),
        ("raise ValueError from OSError(28, 'full')", "DiskFull"),
        ("raise ValueError from None", "LoadFailed"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_load_that_met_the_machines_limits_says_so(
    write_predictor: Write, body: str, reason: str, wrapped: bool
) -> None:
    handler = "raise RuntimeError('cannot fetch')" if wrapped else "raise"
    file = write_predictor(f"""
        class Predictor:
            def load(self):
                try:
                    {body}
                except Exception:
                    {handler}
            def predict(self, request): pass
    """)
    with pytest.raises(LoadFailed) as caught:
        ask(file)
    assert caught.value.reason == reason


def test_the_log_of_a_failed_load_is_bounded(write_predictor: Write) -> None:
    file = write_predictor("raise ValueError('é' * 20_000 + 'end')")
    with pytest.raises(LoadFailed) as caught:
        ask(file)
    assert len(caught.value.log.encode()) <= MAX_LOG_BYTES
    assert caught.value.log.endswith("end")
    assert len(caught.value.message) <= MAX_MESSAGE


def test_not_ready_before_load(write_predictor: Write) -> None:
    host = PredictorHost("predictor:Predictor", write_predictor("").parent, 1)
    assert host.state == "loading"
    with pytest.raises(NotReady, match="loading"):
        asyncio.run(host.predict(None))


@pytest.mark.parametrize("asynchronous", ["", "async "])
@pytest.mark.parametrize(
    ("body", "expected", "message"),
    [
        ("raise ValueError('secret')", PredictFailed, "ValueError"),
        ("raise SystemExit(1)", PredictFailed, "SystemExit"),
        ("raise StopIteration", PredictFailed, "StopIteration|RuntimeError"),
        ("return {'k': object()}", NotEncodable, "'k'.*object"),
    ],
)
def test_a_failing_predict(
    write_predictor: Write,
    caplog: pytest.LogCaptureFixture,
    asynchronous: str,
    body: str,
    expected: type[Exception],
    message: str,
) -> None:
    file = write_predictor(
        f"class Predictor:\n    def load(self): pass\n"
        f"    {asynchronous}def predict(self, request):\n        {body}\n"
    )
    with pytest.raises(expected, match=message) as caught:
        ask(file)
    assert "secret" not in str(caught.value)
    if expected is PredictFailed:
        assert f'File "{file}"' in caplog.text
        assert "_outcome" not in caplog.text


def test_the_users_own_http_error_is_the_answer(write_predictor: Write) -> None:
    file = write_predictor("""
        from fastapi import HTTPException
        class Predictor:
            def load(self): pass
            def predict(self, request): raise HTTPException(418, "teapot")
    """)
    with pytest.raises(Refused) as caught:
        ask(file)
    assert (caught.value.status, caught.value.content) == (418, {"code": "Refused", "detail": "teapot"})


def test_slow_predictions_are_bounded_and_leave_the_loop_free(write_predictor: Write) -> None:
    file = write_predictor("""
        import threading
        running, most, gate = [], [], threading.Event()
        class Predictor:
            def load(self): pass
            def predict(self, request):
                running.append(1)
                most.append(len(running))
                gate.wait(10)
                running.pop()
                return max(most)
    """)

    async def run() -> list[Any]:
        host = PredictorHost("predictor:Predictor", file.parent, 2)
        await host.load()
        module = sys.modules["predictor"]
        calls = [asyncio.create_task(host.predict(None)) for _ in range(6)]
        deadline = time.monotonic() + 10
        while len(module.running) < 2 and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        longest = 0.0
        for _ in range(20):
            started = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - started)
        assert longest < 1
        module.gate.set()
        answers = [json.loads(body_of(await call)) for call in calls]
        host.close()
        return answers

    assert max(asyncio.run(run())) == 2


def test_an_answer_does_not_wait_for_the_calls_queued_behind_it(write_predictor: Write) -> None:
    file = write_predictor("""
        import threading
        gate = threading.Event()
        class Predictor:
            def load(self): pass
            def predict(self, request):
                if request: gate.wait(10)
                return request
    """)

    async def run() -> None:
        host = PredictorHost("predictor:Predictor", file.parent, 1)
        await host.load()
        quick, *slow = [asyncio.create_task(host.predict(number)) for number in range(3)]
        await asyncio.wait_for(quick, 5)
        assert not any(task.done() for task in slow)
        sys.modules["predictor"].gate.set()
        await asyncio.gather(*slow)
        host.close()

    asyncio.run(run())


def test_the_failure_file_is_whole_or_absent(tmp_path: Path) -> None:
    file = tmp_path / "failure.json"
    report_failure(None, LoadFailed("m", "l"))
    assert list(tmp_path.iterdir()) == []
    report_failure(file, LoadFailed("first", ""))
    report_failure(file, LoadFailed("é", "log\nlines"))
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "reason": "LoadFailed",
        "message": "é",
        "log": "log\nlines",
    }
    assert list(tmp_path.iterdir()) == [file]
