"""`make demo` in a checkout where nothing runs: what each step has shown, and that it ends as it began."""

import re
from dataclasses import dataclass

import pytest

from dev.process import processes_of
from tests.e2e.conftest import Checkout, in_docker


@dataclass(frozen=True)
class Told:
    """What `make demo` has printed: every chapter by its title, in order, and how it ended."""

    code: int
    chapters: dict[str, str]

    @property
    def story(self) -> str:
        return "\n".join(f"--- {title}\n{text}" for title, text in self.chapters.items())

    def check(self, title: str, *steps: str) -> None:
        """The chapter was reached, these of its steps went well, and none failed."""
        assert title in self.chapters, f"the story ended before this step:\n{self.story}"
        text = self.chapters[title]
        for step in steps:
            assert re.search(rf"^ *[0-9.]+ s  ok      {re.escape(step)}", text, re.MULTILINE), text
        assert "did not hold" not in text, text


@pytest.fixture(scope="module")
def told(checkout: Checkout) -> Told:
    ended = checkout.make("down")
    assert ended.returncode == 0, ended.stderr
    done = checkout.make("demo")
    parts = re.split(r"^--- (.+)\n", done.stdout + done.stderr, flags=re.MULTILINE)
    return Told(done.returncode, {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))})


def test_set_up_starts_everything(told: Told) -> None:
    steps = ("images", "control plane", "local cloud", "CRD, ServiceAccount and RBAC", "operator")
    told.check("1. control plane, local cloud, images, CRD, operator", *steps)


def test_apply_becomes_a_ready_endpoint(told: Told) -> None:
    told.check("2. kubectl apply, Ready", "iris is Ready", "the code is in the bucket")


def test_every_route_answers_over_verified_https(told: Told) -> None:
    routes = (
        "POST /token",
        "POST /predict ",
        "POST /predict_dict ",
        "http:// redirects",
        "POST /predict_image ",
    )
    told.check("3. log in and predict over HTTPS", *routes)


def test_a_preempted_vm_serves_again_while_the_operator_is_dead(told: Told) -> None:
    told.check(
        "4. operator killed, VM preempted, serving again",
        "SIGKILL to the operator",
        "the VM is gone",
        "the Scheduler's own next tick brings it back, the token of step 3 is accepted",
        "the keep-alive started it",
    )


def test_the_operator_records_one_preemption_and_makes_nothing_twice(told: Told) -> None:
    told.check("5. operator started again", "operator", "one preemption in the status", "iris is Ready")


def test_delete_leaves_nothing_in_the_cloud(told: Told) -> None:
    told.check("6. kubectl delete leaves nothing")


def test_a_stack_that_was_not_up_is_taken_down(told: Told, checkout: Checkout) -> None:
    told.check("the stack was not up before: taking it down")
    assert told.code == 0, told.story
    assert processes_of(checkout.home) == []
    assert in_docker(checkout.docker, checkout.home) == []
