"""Runs an uploaded function in this process, in the cloud's time. The code is what the archive holds."""

import importlib.util
import io
import sys
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
from flask import Request
from werkzeug.test import EnvironBuilder

from dev.simulation.sessions import calling_as
from localcloud.clock import Clock
from localcloud.services.functions.runtime import BuildError, Built, Serving


class ClockTime:
    """Stands in for the module `time` in a function's code."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def time(self) -> float:
        return self._clock.now().timestamp()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self._clock.wait(seconds, threading.Event())


class InProcess:
    """`Runtime`: a module for each revision of each function, which all call as one `account`. `lines` is all
    that functions have logged."""

    account = "function-run@simulated.iam.gserviceaccount.com"

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._modules: dict[str, ModuleType] = {}
        self.calls = 0
        self.lines: list[str] = []

    def start(self) -> None:
        """Modules are loaded when they are needed."""

    def stop(self) -> None:
        self._modules.clear()

    def build(self, archive: bytes, runtime: str, variables: Mapping[str, str], log: Path) -> Built:
        try:
            with zipfile.ZipFile(io.BytesIO(archive)) as opened:
                opened.extractall(self._folder)
        except zipfile.BadZipFile as error:
            raise BuildError(f"the source is not a zip archive: {error}") from error
        if not (self._folder / "main.py").is_file():
            raise BuildError("the archive has no main.py in its root")
        return Built(self._folder, Path(sys.executable))

    def ensure(self, serving: Serving) -> ModuleType:
        module = self._modules.get(serving.revision)
        if module is None:
            module = self._modules[serving.revision] = self._load(serving)
        return module

    def end(self, function: str) -> None:
        """A module that nobody calls does nothing."""

    def log(self, short: str) -> Path:
        return self._folder / f"{short}.log"

    def call(self, serving: Serving, method: str, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        self.calls += 1
        environ = EnvironBuilder(method=method, headers=list(headers.items()), data=body).get_environ()
        with calling_as(self.account):
            answer = getattr(self.ensure(serving), serving.entry_point)(Request(environ))
        text, code = answer if isinstance(answer, tuple) else (answer, 200)
        return httpx.Response(code, text=text)

    def _load(self, serving: Serving) -> ModuleType:
        spec = importlib.util.spec_from_file_location(serving.revision, Path(serving.source) / "main.py")
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        sys.modules[serving.revision] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        finally:
            del sys.modules[serving.revision]
        module.time = ClockTime(self._clock)
        module.os = SimpleNamespace(environ=serving.variables)
        module.sys = SimpleNamespace(stdout=SimpleNamespace(write=self.lines.append, flush=lambda: None))
        loaded: ModuleType = module
        return loaded
