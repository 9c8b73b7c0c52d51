"""Which changes make an image be built again."""

from pathlib import Path

import pytest

from dev import dockerfile

TEXT = """\
ARG BASE=debian
# a comment
FROM ${BASE} AS base
ENV A=1

FROM base AS server
RUN one \\
 && two
COPY --chmod=0755 server/app server/more /srv/

FROM base AS registry
COPY registry.yml /etc/
COPY --from=server /srv/app /srv/
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(TEXT)
    (tmp_path / "server" / "app" / "__pycache__").mkdir(parents=True)
    (tmp_path / "server" / "app" / "a.py").write_text("a")
    (tmp_path / "server" / "more").write_text("m")
    (tmp_path / "registry.yml").write_text("r")
    return tmp_path


def test_a_stage_knows_its_parent_its_lines_and_what_it_copies() -> None:
    server = dockerfile.parse(TEXT)["server"]
    assert server.parent == "base"
    assert "RUN one && two" in server.lines
    assert list(server.sources()) == ["server/app", "server/more"]


def test_what_is_copied_from_a_stage_is_a_parent_and_no_source() -> None:
    registry = dockerfile.parse(TEXT)["registry"]
    assert registry.parents == ["base", "server"]
    assert list(registry.sources()) == ["registry.yml"]


def test_the_same_inputs_give_the_same_fingerprint(context: Path) -> None:
    before = dockerfile.fingerprint(context, "server", "id")
    (context / "server" / "app" / "__pycache__" / "a.pyc").write_text("compiled")
    (context / "registry.yml").write_text("another target's")
    assert dockerfile.fingerprint(context, "server", "id") == before


@pytest.mark.parametrize("changed", ["server/app/a.py", "server/app/new.py", "server/more"])
def test_a_changed_or_new_file_changes_it(context: Path, changed: str) -> None:
    before = dockerfile.fingerprint(context, "server", "id")
    (context / changed).write_text("changed")
    assert dockerfile.fingerprint(context, "server", "id") != before


def test_a_mode_a_base_and_an_instruction_change_it(context: Path) -> None:
    seen = {
        dockerfile.fingerprint(context, "server", "id"),
        dockerfile.fingerprint(context, "server", "other"),
    }
    (context / "server" / "more").chmod(0o755)
    seen.add(dockerfile.fingerprint(context, "server", "id"))
    (context / "Dockerfile").write_text(TEXT.replace("ENV A=1", "ENV A=2"))
    seen.add(dockerfile.fingerprint(context, "server", "id"))
    assert len(seen) == 4


def test_a_change_in_a_stage_copied_from_counts(context: Path) -> None:
    before = dockerfile.fingerprint(context, "registry", "id")
    (context / "server" / "more").write_text("changed")
    assert dockerfile.fingerprint(context, "registry", "id") != before


def test_the_projects_own_dockerfile_has_every_target() -> None:
    from dev import images
    from dev.paths import ROOT

    stages = dockerfile.parse((ROOT / "Dockerfile").read_text())
    for target in images.TARGETS:
        assert all((ROOT / source).exists() for source in stages[target].sources())


@pytest.mark.parametrize("target", ["server", "localcloud", "operator"])
def test_an_images_label_tells_the_version_of_what_is_in_it(target: str) -> None:
    from dev.paths import ROOT, version_of

    labels = [
        line for line in dockerfile.parse((ROOT / "Dockerfile").read_text())[target].lines if "LABEL" in line
    ]
    assert f"org.opencontainers.image.version={version_of(target)}" in labels[0].split()
