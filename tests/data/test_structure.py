"""Folder names: what is a split, what a class, and what neither."""

import pytest

from tapetum.data.structure import likely_classes, natural, split_folder, splits


def test_splits_are_found_below_folders_that_hold_everything():
    paths = ["top/set/train/cat/1.jpg", "top/set/valid/cat/2.jpg", "top/set/testing/3.jpg"]
    assert splits(paths) == (["train", "validation", "test"], ["cat/1.jpg", "cat/2.jpg", "3.jpg"])
    assert split_folder(paths[:1], "train") == "top/set/train/"


def test_a_train_beside_a_bus_is_a_vehicle():
    assert splits(["train/1.jpg", "bus/2.jpg"]) == (None, ["train/1.jpg", "bus/2.jpg"])


@pytest.mark.parametrize("folder", ["val", "valid", "validation", "VAL", "val2017", "dev"])
def test_spellings_of_validation(folder):
    assert splits([f"{folder}/a.jpg", "train/b.jpg"])[0] == ["validation", "train"]


@pytest.mark.parametrize(
    "folders",
    [
        ("2021", "2022"),
        ("2023-05", "2023-06"),
        ("2023-05-01 sea", "2023-06-12 hills"),
        ("20230501", "20230612"),
        ("05", "11", "12"),
        ("100CANON", "101CANON"),
        ("100_PANA", "102_PANA"),
        ("DSC100", "DSC200"),
        ("IMG", "DCIM"),
        ("images", "masks"),
        ("cat", "images"),
    ],
)
def test_dates_cameras_and_generic_folders_are_no_classes(folders):
    assert likely_classes([f"{folder}/{i}.jpg" for i in range(5) for folder in folders])[0] is None


@pytest.mark.parametrize(
    "folders", [("cat", "dog"), ("0", "1", "2"), ("00000", "00042"), ("n01440764", "n01443537"), range(26)]
)
def test_names_and_plain_numbers_are_classes(folders):
    names, _ = likely_classes([f"{folder}/{i}.jpg" for i in range(5) for folder in folders])
    assert names is not None and set(names) == set(map(str, folders))


def test_unlabelled_and_loose_images_have_no_class():
    names, _ = likely_classes(["cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "unlabeled/4.jpg", "5.jpg"])
    assert names == ["cat", "cat", "dog", None, None]
    assert likely_classes(["cat/1.jpg", "dog/2.jpg", "3.jpg", "4.jpg"])[0] is None


def test_classes_are_sorted_as_people_count():
    assert natural(["class10", "class2", "10", "9", "a"]) == ["9", "10", "a", "class2", "class10"]
    assert natural(["²", "1"]) == ["1", "²"]
