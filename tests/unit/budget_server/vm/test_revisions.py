"""Which revision is served and when a failed one is tried again."""

from pathlib import Path

import pytest

from budget_server.vm.config import BudgetConfig
from budget_server.vm.errors import ArtifactUnreachable, DiskFull, LoadFailed, OutOfMemory, RolloutError
from budget_server.vm.revisions import (
    Choice,
    Record,
    choose,
    deaths_in_a_row,
    kept_revisions,
    load,
    restart_pause,
    retry_pause,
    save,
)


def config(letter: str, **changes: str) -> BudgetConfig:
    fields = {"image": "i", "deployment": "d", "bucket": "b", "bundle": "x", "sealed": "y"}
    digests = {"bundleSha256": "0", "sealedSha256": "1"}
    return BudgetConfig.model_validate({**fields, **digests, "revision": letter * 12, **changes})


A, B = config("a"), config("b")
OUCH = LoadFailed("ouch", "log")


def failed(target: BudgetConfig, passed: BudgetConfig | None, error: RolloutError = OUCH) -> Record:
    """The target was accepted and failed once, at 1000."""
    before = Record().passes(passed) if passed else Record()
    return before.accept(target).fail(target, error, served=passed is not None, now=1000)


def test_nothing_is_served_before_metadata_names_something() -> None:
    assert choose(Record(passed=A), None, 0) == Choice()


def test_the_target_comes_first_even_after_another_one_passed() -> None:
    assert choose(Record().passes(A).accept(B), None, 0).serve == B
    assert choose(Record().passes(A).accept(B), A.revision, 0).serve == B


def test_what_serves_already_is_left_alone() -> None:
    assert choose(Record().accept(A).passes(A), A.revision, 0) == Choice()


def test_a_failed_target_waits_and_the_last_passed_stands_in() -> None:
    record = failed(B, A)
    assert choose(record, None, 1001).serve == A
    assert choose(record, A.revision, 1001) == Choice(wait=59)
    assert choose(record, A.revision, 1060).serve == B


def test_a_failed_target_without_stand_in_is_tried_sooner() -> None:
    record = failed(A, None)
    assert choose(record, None, 1001) == Choice(wait=9)
    assert choose(record, None, 1010).serve == A


def test_a_stand_in_that_fails_too_is_not_tried_in_a_loop() -> None:
    record = failed(B, A).fail(A, OUCH, served=False, now=1001)
    assert choose(record, None, 1002) == Choice(wait=9)
    assert choose(record, None, 1012).serve == A


def test_any_change_in_metadata_brings_another_try() -> None:
    record = failed(B, A)
    assert choose(record.accept(B), A.revision, 1001).serve is None, "the same entry is no change"
    assert choose(record.accept(config("b", image="new")), A.revision, 1001).serve is not None


def test_after_a_boot_the_target_waits_only_where_something_stands_in() -> None:
    assert choose(failed(A, None).after_boot(), None, 1001).serve == A
    assert choose(failed(A, A).after_boot(), None, 1001).serve == A
    rebooted = failed(B, A).after_boot()
    assert choose(rebooted, None, 1001).serve == A
    assert choose(rebooted, A.revision, 1001) == Choice(wait=59)


def test_a_clock_set_back_does_not_hold_a_revision_for_ever() -> None:
    assert choose(failed(B, A), A.revision, -1_000_000).serve == B


def test_attempts_are_counted_until_it_passes() -> None:
    twice = failed(B, A).fail(B, OUCH, served=True, now=2000)
    failure = twice.failure(B.revision)
    assert failure
    assert (failure.attempts, failure.retry_at) == (2, 2120)
    assert twice.passes(B).failures == {}


def test_failures_of_forgotten_revisions_are_forgotten() -> None:
    assert failed(B, A).accept(config("c")).failures == {}


@pytest.mark.parametrize(
    ("attempts", "served", "seconds"),
    [(1, False, 10), (2, False, 20), (6, False, 300), (999, False, 300), (1, True, 60), (999, True, 3600)],
)
def test_retry_pauses_grow_to_a_bound(attempts: int, served: bool, seconds: float) -> None:
    assert retry_pause(attempts, served) == seconds


@pytest.mark.parametrize("error", [OutOfMemory("m"), DiskFull("m")])
@pytest.mark.parametrize(
    ("served", "pauses"),
    [(False, [10, 20, 600, 1200, 2400, 3600, 3600]), (True, [60, 120, 600, 1200, 2400, 3600, 3600])],
)
def test_after_three_tries_on_too_small_a_machine_the_pauses_are_long(
    error: RolloutError, served: bool, pauses: list[float]
) -> None:
    record, told = Record().accept(A), []
    for _ in pauses:
        record = record.fail(A, error, served, now=1000, machine="e2-micro")
        failure = record.failure(A.revision)
        assert failure
        told.append(failure.retry_at - 1000)
    assert told == pauses


def test_another_machine_is_tried_at_once_with_what_the_old_one_was_too_small_for() -> None:
    record = Record().passes(A).accept(B).fail(B, OutOfMemory("m"), served=True, now=1000, machine="e2-micro")
    assert choose(record.on_machine("e2-micro"), A.revision, 1001).serve is None
    assert choose(record.on_machine(""), A.revision, 1001).serve is None, "the metadata server did not say"
    assert choose(record.on_machine("e2-small"), A.revision, 1001).serve == B


def test_an_ordinary_failure_stays_one_on_another_machine() -> None:
    record = Record().passes(A).accept(B).fail(B, OUCH, served=True, now=1000, machine="e2-micro")
    assert record.on_machine("e2-small") == record


def test_a_record_of_an_earlier_version_knows_no_machine() -> None:
    old = failed(B, A).model_dump_json(by_alias=True).replace(',"machine":""', "")
    assert "machine" not in old
    assert Record.model_validate_json(old).on_machine("e2-micro") == failed(B, A)


def test_restart_pauses_grow_to_a_minute() -> None:
    assert [restart_pause(deaths) for deaths in (1, 2, 3, 6, 7, 999)] == [1, 2, 4, 32, 60, 60]


def test_a_long_life_forgives_earlier_deaths() -> None:
    assert deaths_in_a_row(4, lived=5) == 5
    assert deaths_in_a_row(4, lived=600) == 1


def test_kept_are_target_last_passed_and_active() -> None:
    assert kept_revisions(failed(B, A), "c" * 12) == {"a" * 12, "b" * 12, "c" * 12}
    assert kept_revisions(Record(), None) == frozenset()


def test_the_record_survives_on_disk_without_transient_failures(tmp_path: Path) -> None:
    path = tmp_path / "revisions.json"
    save(failed(B, A), path)
    assert load(path) == failed(B, A)
    assert path.stat().st_mode & 0o077 == 0
    save(failed(B, A, ArtifactUnreachable("bucket away")), path)
    assert load(path).failures == {}


@pytest.mark.parametrize("damage", ["", "{", '{"passed": 3}'])
def test_a_damaged_record_is_no_obstacle(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "revisions.json"
    path.write_text(damage)
    assert load(path) == Record()


def test_whom_an_empty_machine_did_not_help_is_remembered_until_metadata_changes() -> None:
    record = failed(B, A)
    assert not record.failed_alone(B.revision)
    alone = record.alone(B.revision)
    assert alone.failed_alone(B.revision)
    assert alone.fail(B, OUCH, served=True, now=2000).failed_alone(B.revision), "still after another try"
    assert not alone.accept(config("b", image="new")).failed_alone(B.revision)
    assert Record().alone(B.revision) == Record()


# --- another image is on its way ---

OLD_IMAGE, NEW_IMAGE = "i", "j"


def test_what_came_with_another_image_waits_for_it() -> None:
    record = Record().passes(A).accept(config("b", image=NEW_IMAGE))
    assert choose(record, A.revision, 0, OLD_IMAGE) == Choice()
    assert choose(record, A.revision, 0, NEW_IMAGE).serve == record.accepted
    assert choose(record, A.revision, 0).serve == record.accepted, "a host that does not tell"


def test_a_boot_without_the_wanted_image_serves_what_belongs_to_the_one_that_is_there() -> None:
    record = Record().passes(A).accept(config("b", image=NEW_IMAGE))
    assert choose(record, None, 0, OLD_IMAGE).serve == A
    assert choose(record, None, 0, NEW_IMAGE).serve == record.accepted
    assert choose(Record().accept(A), None, 0, NEW_IMAGE).serve == A, "there is nothing else"
    waiting = record.fail(A, OUCH, served=False, now=1000)
    assert choose(waiting, None, 1001, OLD_IMAGE) == Choice(wait=9)


def test_code_in_an_image_is_served_by_no_other_one() -> None:
    first, second = (
        config(letter, image=image).model_copy(update={"image_code": True})
        for letter, image in (("a", OLD_IMAGE), ("b", NEW_IMAGE))
    )
    record = Record().passes(first).accept(second)
    assert choose(record, None, 0, OLD_IMAGE).serve == first, "it is there, and the new image is not"
    assert choose(record, None, 0, "k") == Choice()
    broken = record.fail(second, OUCH, served=False, now=1000)
    assert choose(broken, None, 1001, NEW_IMAGE) == Choice(wait=9), "the old code is gone with its image"
    assert choose(broken, None, 1010, NEW_IMAGE).serve == second
