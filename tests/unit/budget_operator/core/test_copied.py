"""What of a bucket becomes code, and what is refused with the field, the figures and the way out."""

from typing import Any

import pytest

from budget_operator.core.copied import LOOK_AT_MOST, MOST_FILES, MOST_MIB, Address, Copied, select
from budget_operator.core.errors import InvalidSpec, ReferenceMissing
from budget_operator.core.observed import Listed

FOLDER = Address("gs://models/iris/v1/")
ZIP = Address("gs://models/iris.zip")


def listed(name: str, size: int = 1, **more: Any) -> Listed:
    return Listed(name, **{"generation": 7, "size": size, "crc32c": "c", "md5": "m", **more})


def chosen(*names: str, entrypoint: str = "predictor:Predictor") -> Copied:
    return select(FOLDER, tuple(map(listed, names)), entrypoint)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("gs://models/", ("models", "", "")),
        ("gs://models/a/b c/", ("models", "a/b c/", "")),
        ("gs://models/a/b.zip", ("models", "a/b.zip", "zip")),
        ("gs://my_models.acme.org/b.tar.gz", ("my_models.acme.org", "b.tar.gz", "tar.gz")),
        ("gs://models/code.zip/", ("models", "code.zip/", "")),
    ],
)
def test_an_address_is_a_folder_or_an_archive(text: str, parts: tuple[str, str, str]) -> None:
    address = Address(text)
    assert (address.bucket, address.path, address.archive) == parts


def test_a_folder_becomes_files_below_it() -> None:
    found = chosen("iris/v1/", "iris/v1/data/", "iris/v1/data/model.pkl", "iris/v1/predictor.py")
    assert [(file.path, file.bucket, file.source.name) for file in found.files] == [
        ("data/model.pkl", "models", "iris/v1/data/model.pkl"),
        ("predictor.py", "models", "iris/v1/predictor.py"),
    ]


def test_a_module_in_a_package_is_looked_for_where_it_lies() -> None:
    chosen("iris/v1/pkg/model.py", entrypoint="pkg.model:Predictor")
    with pytest.raises(
        InvalidSpec, match=r"spec\.predictor\.entrypoint: there is no file pkg/model\.py in gs:"
    ):
        chosen("iris/v1/predictor.py", entrypoint="pkg.model:Predictor")


def test_an_archive_is_the_object_of_just_that_name() -> None:
    found = select(ZIP, (listed("iris.zip"), listed("iris.zip.old")), "predictor:Predictor")
    assert [file.source.name for file in found.files] == ["iris.zip"]


@pytest.mark.parametrize(
    ("address", "found", "words"),
    [
        (FOLDER, (), "there is no object below gs://models/iris/v1/"),
        (FOLDER, (listed("iris/v1/"),), "there is no object below gs://models/iris/v1/"),
        (ZIP, (), "there is no object gs://models/iris.zip"),
        (ZIP, (listed("iris.zip.old"),), "there is no object gs://models/iris.zip"),
    ],
)
def test_what_is_not_there_is_waited_for(address: Address, found: tuple[Listed, ...], words: str) -> None:
    with pytest.raises(ReferenceMissing, match=f"spec.predictor.gcs: {words}") as caught:
        select(address, found, "predictor:Predictor")
    assert "looked at again every minute" in caught.value.sentence


MANY = tuple(listed(f"iris/v1/{number}.py") for number in range(MOST_FILES + 1))
FOLDERS = tuple(listed(f"iris/v1/{number}/") for number in range(LOOK_AT_MOST - 1))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (MANY, f"more than {MOST_FILES} files; put them into a .zip or .tar.gz"),
        ((*FOLDERS, listed("iris/v1/predictor.py")), f"more than {MOST_FILES} files"),
        (
            (listed("iris/v1/a", 3000 * 2**20), listed("iris/v1/b", 2121 * 2**20)),
            f"has 5121 MiB, and at most {MOST_MIB} MiB are copied",
        ),
        ((listed("iris/v1/a", encoding="gzip"),), "iris/v1/a is stored with Content-Encoding gzip"),
        ((listed("iris/v1/../etc"),), "a name that no file can have"),
        ((listed("iris/v1//etc"),), "a name that no file can have"),
        ((listed("iris/v1/a\\b"),), "a name that no file can have"),
        ((listed("iris/v1/a\x1b"),), "a name that no file can have"),
        ((listed("iris/v1/" + "é" * 128),), "a name that no file can have"),
        ((listed("iris/v1/a"), listed("iris/v1/a/b/c")), "'iris/v1/a' is an object and a folder"),
    ],
)
def test_what_cannot_be_code_is_refused_by_the_field(found: tuple[Listed, ...], words: str) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec\.predictor\.gcs: ") as caught:
        select(FOLDER, found, "predictor:Predictor")
    assert words in caught.value.message


def test_the_largest_that_is_taken() -> None:
    found = (listed("iris/v1/model.pkl", MOST_MIB * 2**20 - 1), listed("iris/v1/predictor.py", 1))
    assert len(select(FOLDER, found, "predictor:Predictor").files) == 2


def test_a_file_is_named_by_its_content() -> None:
    def name(**more: Any) -> str:
        return select(ZIP, (listed("iris.zip", **more),), "p:P").files[0].name

    assert name() == name(generation=8), "put there again, but the same"
    assert len({name(), name(size=2), name(crc32c="d"), name(md5="n")}) == 4
    assert name(md5="") != name(md5="", generation=8), "of which nobody knows whether it is the same"
