"""Requirement lines: what works is passed on, what can never work is refused by name, logins stay unseen."""

import pytest

from budget_operator.core.errors import InvalidSpec
from budget_operator.core.requirements import read_requirements

SHA = "a" * 64
PASSWORD = "hunter22"


def lines(*given: str, **files: str) -> tuple[str, ...]:
    content = {f"{name}.txt": text.encode() for name, text in files.items()}
    return read_requirements(given, content).lines


def test_comments_and_empty_lines_are_lost() -> None:
    given = [
        "numpy==2.0  # fast",
        "# nothing",
        "  ",
        "pillow >= 12 ; python_version > '3.9'",
        "x @ https://e.org/x.whl#sha256=1",
    ]
    kept = ("numpy==2.0", "pillow >= 12 ; python_version > '3.9'", "x @ https://e.org/x.whl#sha256=1")
    assert lines(*given) == kept


@pytest.mark.parametrize(
    ("line", "passed_on"),
    [
        ("--index-url https://e.org/simple", "--index-url https://e.org/simple"),
        ("-i   https://e.org/simple", "--index-url https://e.org/simple"),
        (
            "--extra-index-url=https://e.org:8443/simple?a=b",
            "--extra-index-url https://e.org:8443/simple?a=b",
        ),
        ("--extra-index-url http://10.0.0.5/", "--extra-index-url http://10.0.0.5/"),
        ("-f https://e.org/torch.html", "--find-links https://e.org/torch.html"),
        ("--find-links /opt/wheels", "--find-links /opt/wheels"),
        ("--no-index", "--no-index"),
        ("--pre", "--pre"),
        ("--no-binary lxml", "--no-binary lxml"),
        ("--only-binary=:all:", "--only-binary :all:"),
        ("--trusted-host e.org:8080", "--trusted-host e.org:8080"),
        (f"numpy==2 --hash=sha256:{SHA}", f"numpy==2 --hash=sha256:{SHA}"),
        (
            f"numpy==2 \\\n    --hash sha256:{SHA} \\\n    --hash=sha512:{SHA}{SHA}",
            f"numpy==2 --hash=sha256:{SHA} --hash=sha512:{SHA}{SHA}",
        ),
        (f"x @ https://e.org/x.whl --hash=sha256:{SHA}", f"x @ https://e.org/x.whl --hash=sha256:{SHA}"),
        ("x @ git+https://e.org/x@v1", "x @ git+https://e.org/x@v1"),
        ("x @ file:///opt/x.whl", "x @ file:///opt/x.whl"),
    ],
)
def test_what_works_is_passed_on_as_uv_reads_it(line: str, passed_on: str) -> None:
    assert lines(line) == (passed_on,)


def test_lists_of_packages_become_lines() -> None:
    assert lines("--no-binary lxml,pyyaml") == ("--no-binary lxml", "--no-binary pyyaml")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("-e .", "the pip option -e is not supported; the code's own folder is importable"),
        ("--editable=./x", "the pip option --editable is not supported"),
        ("--require-hashes", "--require-hashes is not supported; leave it out"),
        ("--prefer-binary", "--prefer-binary is not supported; leave it out"),
        ("--no-binary :all:", "--no-binary :all: would compile"),
        ("--no-binary a b", "takes one value"),
        ("--only-binary a,,b", "separated by commas"),
        ("numpy --pre", "the pip option --pre is not supported"),
        ("--pre numpy", "--pre takes no value"),
        ("--index-url", "takes one value"),
        ("--index-url packages.example/simple", "an index is a URL"),
        ("--index-url https:///simple", "names no host"),
        ("--index-url https://a/ --extra-index-url https://b/", "has a line of its own"),
        ("--trusted-host https://e.org", "give a host"),
        ("--hash=sha256:" + SHA, "the pip option --hash is not supported"),
        ("--nonsense", "the pip option --nonsense is not supported"),
        ("numpy==2 --config-settings=a=b", "the pip option --config-settings is not supported"),
        ("numpy==2 --hash=sha256:abc", "--hash is sha256 with 64"),
        (f"numpy==2 --hash=md5:{'a' * 32}", "--hash is sha256 with 64"),
        ("numpy==2 --hash=md5:", "--hash is sha256 with 64"),
        (f"numpy>=2 --hash=sha256:{SHA}", "--hash needs an exact version"),
        (f"numpy==2.* --hash=sha256:{SHA}", "--hash needs an exact version"),
        ("x @ git+ssh://git@e.org/x", r"git\+ssh is not supported; use git\+https"),
        ("x @ svn+https://e.org/x", r"svn\+https is not supported"),
        ("https://e.org/x.whl", "write name @ URL"),
        ("git+https://e.org/x", "write name @ URL"),
        ("not a requirement", "is not a requirement"),
        ("numpy=2", "is not a requirement"),
        ("./local.whl", "is not a requirement"),
        ("numpy\npillow", "without line breaks"),
        ("numpy \\", "without line breaks"),
        ("-r", "no such file"),
        ("-r other.txt", r"no such file \(files: more\.txt\)"),
        ("-c ../more.txt", "no such file"),
    ],
)
def test_what_can_never_work_is_refused_by_name(line: str, problem: str) -> None:
    with pytest.raises(InvalidSpec, match=rf"^spec\.requirements\[1\]: .*{problem}"):
        lines("numpy", line, more="")


def test_files_of_the_code_are_taken_in() -> None:
    more = f"# pinned\nnumpy==2 \\\n    --hash=sha256:{SHA}\n--pre\n-r deep.txt\n"
    assert lines("-r more.txt", "pillow", more=more, deep="six\n\n") == (
        f"numpy==2 --hash=sha256:{SHA}",
        "--pre",
        "six",
        "pillow",
    )


def test_a_problem_in_a_file_names_file_and_line() -> None:
    with pytest.raises(
        InvalidSpec, match=r"^spec\.requirements\[0\]: more\.txt, line 2: the pip option -e is"
    ):
        lines("-r more.txt", more="six\n-e .\n")


def test_a_file_that_leads_back_to_itself() -> None:
    with pytest.raises(InvalidSpec, match="named twice"):
        lines("-r more.txt", more="-r other.txt", other="-r ./more.txt")


def test_constraints_stay_a_file_with_checked_lines() -> None:
    assert lines("-c ./more.txt", more="numpy<3\n# x\n") == ("-c ./more.txt",)
    for wrong, problem in (
        ("-r x.txt", "options belong"),
        ("x @ https://e.org/x.whl", "no URL"),
        ("!", "not a"),
    ):
        with pytest.raises(InvalidSpec, match=rf"more\.txt, line 1: .*{problem}"):
            lines("-c more.txt", more=wrong)


def test_logins_are_taken_out_of_the_lines() -> None:
    given = [
        f"--index-url https://me:{PASSWORD}@e.org/simple",
        f"x @ https://me:{PASSWORD}@e.org/x.whl",
        "y @ git+https://t0ken@e.org/y@v1",
        "z @ https://${TOKEN}@e.org/z.whl",
    ]
    found = read_requirements(given, {})
    assert found.lines == (
        "--index-url https://${BUDGET_REQUIREMENTS_LOGIN_0}@e.org/simple",
        "x @ https://${BUDGET_REQUIREMENTS_LOGIN_0}@e.org/x.whl",
        "y @ git+https://${BUDGET_REQUIREMENTS_LOGIN_1}@e.org/y@v1",
        "z @ https://${TOKEN}@e.org/z.whl",
    )
    logins = {"BUDGET_REQUIREMENTS_LOGIN_0": f"me:{PASSWORD}", "BUDGET_REQUIREMENTS_LOGIN_1": "t0ken"}
    assert found.logins == logins
    assert PASSWORD not in repr(found)


@pytest.mark.parametrize(
    "login", [f"me:{PASSWORD}", f"me:{PASSWORD}/x", f"me:a/{PASSWORD}", f"me:@{PASSWORD}"]
)
@pytest.mark.parametrize(
    "line",
    [
        "--index-url ftp://{}@e.org/",
        "--index-url https://{}@e.org/ x",
        "--no-binary https://{}@e.org/",
        "https://{}@e.org/x.whl",
        "x @ svn+https://{}@e.org/x",
        "x @ https://{}@e.org:port/x.whl",
        "x@@ https://{}@e.org/x",
        "x>1 --hash=sha256:https://{}@e.org/x",
    ],
)
def test_a_refusal_does_not_show_a_login(line: str, login: str) -> None:
    with pytest.raises(InvalidSpec) as raised:
        lines(line.format(login))
    assert PASSWORD not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_login_with_a_slash_is_refused() -> None:
    for line in ("--index-url https://me:a/b@e.org/", "x @ https://me:a/b@e.org/x.whl"):
        with pytest.raises(InvalidSpec, match="special characters of a login are written as %XX"):
            lines(line)


def test_files_that_are_not_here_to_look_at_are_left_to_the_vm() -> None:
    given = ["-r needs.txt", "-c sub/limits.txt", "numpy==2"]
    kept = ("--requirement needs.txt", "--constraint sub/limits.txt", "numpy==2")
    assert read_requirements(given, None).lines == kept


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x.txt", "a/../../x.txt", "https://e.org/x.txt", "a b"]
)
def test_only_files_of_the_code_are_left_to_the_vm(name: str) -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.requirements\[0\].*name one file of the code"):
        read_requirements([f"-r {name}"], None)
