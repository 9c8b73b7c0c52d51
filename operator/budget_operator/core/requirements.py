"""Checks of the requirement lines, before anything is paid for: what can never work is refused by name.

A line is a requirement, a requirement with hashes, or one of pip's options that uv honours. Lines of files
(`-r more.txt`) are taken in. Logins in URLs are taken out: the bundle that lies in the bucket has a variable
in their place, whose value travels sealed with the other secrets. The resolution itself is the VM's business,
where the image's Python and the indexes are known.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from budget_operator.core.api import RESERVED_ENV
from budget_operator.core.errors import InvalidSpec

_COMMENT = re.compile(r"(^|\s)#.*$")
_CONTINUED = re.compile(r"\\\r?\n\s*")
_LOGIN = re.compile(r"(?<=://)[^/\s]+(?=@)")
#: What may be one: a slash in a password is an error, but no reason to show it.
_MAYBE_LOGIN = re.compile(r"(?<=://)([^/\s]+|\S*:\S*)(?=@)")
_HASH = re.compile(r"\s--hash(?:=|\s+)(\S*)")
_OPTION = re.compile(r"(?:^|\s)(--?[A-Za-z][-A-Za-z]*)")
_PACKAGE = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?")
_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_SHOWN = 200
_SHORT = {"-i": "--index-url", "-f": "--find-links", "-r": "--requirement", "-c": "--constraint"}
_REMEDIES = {
    "-e": "the code's own folder is importable as it is; give a package as name @ https://…",
    "--editable": "the code's own folder is importable as it is; give a package as name @ https://…",
    "--require-hashes": "leave it out: every line with --hash is verified without it",
    "--prefer-binary": "leave it out, or use --only-binary NAME",
    "--extra": "write the extra with its package, such as name[extra]",
}
_FLAGS = ("--no-index", "--pre")


@dataclass(frozen=True)
class Requirements:
    """Lines for the VM, and the values of the variables that stand in them for logins."""

    lines: tuple[str, ...]
    logins: Mapping[str, str] = field(repr=False)


def read_requirements(lines: Iterable[str], files: Mapping[str, bytes] | None) -> Requirements:
    """The lines without comments, each one that uv would take; `files` are those of the code.

    None: they are not here to look at. A line that refers to one is left to the VM as it is.

    Raises:
        InvalidSpec: naming the line, without a login that stands in it.
    """
    found: list[str] = []
    for index, line in enumerate(lines):
        text = _plain(line)
        if "\n" in text or "\r" in text or text.endswith("\\"):
            raise InvalidSpec(f"spec.requirements[{index}]: one requirement per entry, without line breaks")
        if text:
            found += _Reader(files).read(f"spec.requirements[{index}]", text)
    return _without_logins(found)


def _plain(line: str) -> str:
    return _COMMENT.sub("", _CONTINUED.sub(" ", line)).strip()


def _shown(text: str) -> str:
    return repr(_masked(text)[:_SHOWN])


def _masked(text: str) -> str:
    return _MAYBE_LOGIN.sub("[secret]", text)


def _without_logins(lines: Iterable[str]) -> Requirements:
    names: dict[str, str] = {}

    def variable(match: re.Match[str]) -> str:
        if "${" in match[0]:
            return match[0]  # the user's own variables, from spec.env
        return f"${{{names.setdefault(match[0], f'{RESERVED_ENV}REQUIREMENTS_LOGIN_{len(names)}')}}}"

    replaced = tuple(_LOGIN.sub(variable, line) for line in lines)
    return Requirements(replaced, {name: login for login, name in names.items()})


class _Reader:
    """Reads one entry of the spec; it may lead to files that lead to others."""

    def __init__(self, files: Mapping[str, bytes] | None) -> None:
        self._files = files
        self._read: set[str] = set()

    def read(self, place: str, text: str) -> Iterator[str]:
        option, _, value = re.sub(r"[=\s]\s*", " ", text, count=1).partition(" ")
        option = _SHORT.get(option, option)
        if not option.startswith("-"):
            yield _requirement(place, text)
        elif self._files is None and option in ("--requirement", "--constraint"):
            yield f"{option} {_file_name(place, text, value)}"
        elif option == "--requirement":
            yield from self._included(place, text, value)
        elif option == "--constraint":
            for where, line in self._lines(place, text, value):
                _constraint(where, line)
            yield f"-c {value}"
        else:
            yield from _option(place, text, option, value)

    def _included(self, place: str, text: str, name: str) -> Iterator[str]:
        for where, line in self._lines(place, text, name):
            yield from self.read(where, line)

    def _lines(self, place: str, text: str, name: str) -> Iterator[tuple[str, str]]:
        assert self._files is not None  # read
        name = name.strip().removeprefix("./")
        if name not in self._files:
            present = ", ".join(sorted(self._files))[:500]
            raise InvalidSpec(f"{place}: {_shown(text)}: the code has no such file (files: {present})")
        if name in self._read:
            raise InvalidSpec(f"{place}: {_shown(text)}: the file is named twice")
        self._read.add(name)
        content = _CONTINUED.sub(" ", self._files[name].decode(errors="replace"))
        for number, line in enumerate(content.splitlines(), 1):
            if plain := _plain(line):
                yield f"{place}: {name}, line {number}", plain


def _file_name(place: str, text: str, value: str) -> str:
    name = value.strip()
    if not name or " " in name or "//" in name or name.startswith("/") or ".." in name.split("/"):
        raise InvalidSpec(f"{place}: {_shown(text)}: name one file of the code, such as -r requirements.txt")
    return name


def _option(place: str, text: str, option: str, value: str) -> Iterator[str]:
    """An option on a line of its own, as uv wants to read it."""
    if option in _FLAGS:
        if value:
            raise InvalidSpec(f"{place}: {_shown(text)}: {option} takes no value and has a line of its own")
        yield option
        return
    check = _WITH_VALUE.get(option)
    if check is None:
        raise _unsupported(place, option)
    if not value or " " in value:
        raise InvalidSpec(f"{place}: {_shown(text)}: {option} takes one value and has a line of its own")
    for each in value.split(",") if option.endswith("-binary") else (value,):
        if problem := check(each):
            raise InvalidSpec(f"{place}: {_shown(text)}: {problem}")
        if option == "--no-binary" and each == ":all:":
            raise InvalidSpec(
                f"{place}: --no-binary :all: would compile the server's own packages, for which there are no "
                "compilers; name the packages"
            )
        yield f"{option} {each}"


def _url_problem(value: str) -> str:
    try:
        url = urlsplit(value)
        found = url.port is None or url.port
    except ValueError:
        found = False
    return "" if found else "the URL cannot be read; special characters of a login are written as %XX"


def _index_problem(value: str) -> str:
    if problem := _url_problem(value):
        return problem
    url = urlsplit(value)
    if url.scheme not in ("http", "https", "file"):
        return "an index is a URL, such as https://packages.example/simple"
    return "" if url.hostname or url.scheme == "file" else "the URL names no host"


def _links_problem(value: str) -> str:
    return _index_problem(value) if "://" in value else ""


def _packages_problem(value: str) -> str:
    known = value in (":all:", ":none:") or _PACKAGE.fullmatch(value)
    return "" if known else "names of packages are separated by commas"


_WITH_VALUE: Mapping[str, Callable[[str], str]] = {
    "--index-url": _index_problem,
    "--extra-index-url": _index_problem,
    "--find-links": _links_problem,
    "--no-binary": _packages_problem,
    "--only-binary": _packages_problem,
    "--trusted-host": lambda value: "give a host, not a URL" if "/" in value else "",
}


def _unsupported(place: str, option: str) -> InvalidSpec:
    remedy = _REMEDIES.get(option, "give plain requirements such as scikit-learn==1.7.2")
    return InvalidSpec(f"{place}: the pip option {option} is not supported; {remedy}")


def _requirement(place: str, text: str) -> str:
    hashes = _HASH.findall(text)
    plain = _HASH.sub("", text).strip()
    if option := _OPTION.search(plain):
        raise _unsupported(place, option[1])
    parsed = _parse(place, plain)
    if hashes:
        _check_hashes(place, plain, parsed, hashes)
    return " ".join((plain, *(f"--hash={digest}" for digest in hashes)))


def _parse(place: str, text: str) -> Requirement:
    try:
        parsed = Requirement(text)
    except InvalidRequirement as error:
        cause = _masked(str(error).splitlines()[0])
        remedy = "; write name @ URL" if "://" in text and " @ " not in text else ""
        raise InvalidSpec(
            f"{place}: {_shown(text)} is not a requirement that pip understands: {cause}{remedy}"
        ) from None  # the cause would show a login
    if parsed.url and "://" in parsed.url and (problem := _url_problem(parsed.url)):
        raise InvalidSpec(f"{place}: {_shown(text)}: {problem}")
    scheme = urlsplit(parsed.url or "").scheme
    if "+" in scheme and scheme not in ("git+https", "git+http"):
        raise InvalidSpec(
            f"{place}: {_shown(text)}: {scheme} is not supported; use git+https://… or the URL of an archive"
        )
    return parsed


def _check_hashes(place: str, text: str, parsed: Requirement, hashes: Iterable[str]) -> None:
    for digest in hashes:
        algorithm, _, digits = digest.partition(":")
        if not re.fullmatch(rf"[0-9a-fA-F]{{{_DIGITS.get(algorithm, 0)}}}", digits) or not digits:
            kinds = ", ".join(f"{name} with {length}" for name, length in _DIGITS.items())
            raise InvalidSpec(f"{place}: {_shown(text)}: --hash is {kinds} hexadecimal digits")
    exact = [each for each in parsed.specifier if each.operator in ("==", "===") and "*" not in each.version]
    if not exact and not parsed.url:
        raise InvalidSpec(f"{place}: {_shown(text)}: --hash needs an exact version, such as name==1.2.3")


def _constraint(place: str, text: str) -> None:
    if text.startswith("-"):
        raise InvalidSpec(f"{place}: {_shown(text)}: options belong into spec.requirements")
    if _parse(place, _HASH.sub("", text)).url:
        raise InvalidSpec(f"{place}: {_shown(text)}: a constraint gives versions, no URL")
