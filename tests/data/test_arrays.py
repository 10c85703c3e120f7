"""Arrays, tensors, .npz files and torch data sets."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from tapetum.base.errors import TapetumError
from tapetum.data import Damaged, open_data


@pytest.fixture
def batch(picture):
    return np.stack([picture(i) for i in range(5)])  # [5, 8, 10, 3]


def test_every_layout_and_type_gives_the_same_pixels(batch):
    grey = batch[..., 0]
    for array, expected in [
        (batch, batch),
        (batch.transpose(0, 3, 1, 2), batch),
        (torch.from_numpy(batch).permute(0, 3, 1, 2), batch),
        (batch.astype(np.float32) / 255, batch),
        (batch.astype(np.int64), batch),
        (batch.astype(np.uint16) * 257, batch),
        (torch.from_numpy(batch).permute(0, 3, 1, 2) / 255, batch),
        (grey, np.stack([grey] * 3, -1)),
        (grey[..., None], np.stack([grey] * 3, -1)),
        (grey > 99, np.stack([(grey > 99) * np.uint8(255)] * 3, -1)),
    ]:
        source = open_data(array)
        assert len(source) == 5 and source.paths[4] == "000004" and source.size(0) == (8, 10)
        np.testing.assert_array_equal(np.stack([source.read(i) for i in range(5)]), expected)
    assert open_data(batch).fingerprint() == open_data(batch.astype(np.float32) / 255).fingerprint()
    assert open_data(batch).fingerprint() != open_data(batch[::-1].copy()).fingerprint()


def test_arrays_that_hold_no_images_get_a_sentence(batch):
    for array in (
        np.zeros((3, 4)),
        np.zeros((3, 8, 8, 8)),
        batch.astype(np.float32),
        np.array(["a"]),
        batch[:0],
    ):
        with pytest.raises(TapetumError, match=r"holds no images|neither|which of its axes"):
            open_data(array)
    source = open_data(np.stack([np.zeros((4, 4)), np.full((4, 4), 7.0)]))
    with pytest.raises(Damaged, match=r"must lie in \[0, 1\]"):
        source.read(1)


def test_npz(tmp_path, batch):
    np.savez(tmp_path / "a.npz", images=batch, labels=np.array([[2], [0], [2], [10], [-1]]))
    source = open_data(tmp_path / "a.npz")
    assert source.classes == ["0", "2", "10"] and source.labels.tolist() == [1, 0, 1, 2, -1]
    assert source.label_origin == "labels in a.npz"
    np.savez(tmp_path / "b.npz", x_train=batch[:3], y_train=[0, 1, 1], x_test=batch[3:], y_test=[1, 0])
    source = open_data(tmp_path / "b.npz")
    assert source.splits == ["train", "test"] and open_data(source, split="test").labels.tolist() == [1, 0]
    np.testing.assert_array_equal(open_data(source, split="test").read(0), batch[3])
    np.savez(tmp_path / "c.npz", train_images=batch[:3], val_images=batch[3:])
    assert open_data(tmp_path / "c.npz").splits == ["train", "validation"]
    np.save(tmp_path / "d.npy", batch)
    assert len(open_data(tmp_path / "d.npy")) == 5


def test_npz_that_do_not_serve_get_a_sentence(tmp_path, batch):
    np.savez(tmp_path / "a.npz", weights=np.zeros(3))
    np.savez(tmp_path / "b.npz", images=np.array([{}], dtype=object))
    (tmp_path / "c.npz").write_bytes(b"not a zip")
    np.savez(tmp_path / "d.npz", images=batch, labels=[1, 2])
    for name, sentence in [
        ("a", r"holds: weights \[3\]"),
        ("b", "never unpickled"),
        ("c", "cannot be read"),
        ("d", "labels of shape"),
    ]:
        with pytest.raises(TapetumError, match=sentence):
            open_data(tmp_path / f"{name}.npz")


class Items(Dataset):
    """Gives item(i) for each i."""

    def __init__(self, item, count=4, **facts):
        self.item, self.count = item, count
        self.__dict__.update(facts)

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        if i >= self.count:
            raise IndexError
        return self.item(i)


def test_every_form_of_item(batch, png, tmp_path):
    (tmp_path / "a.png").write_bytes(png(0))
    tensor = torch.from_numpy(batch).permute(0, 3, 1, 2)
    for item in (
        lambda i: (Image.fromarray(batch[i]), i % 2),
        lambda i: {"image": batch[i], "label": torch.tensor(i % 2)},
        lambda i: [tensor[i] / 255, np.int64(i % 2)],
        lambda i: (png(i), "01"[i % 2]),
    ):
        source = open_data(Items(item))
        assert source.classes == ["0", "1"] and source.labels.tolist() == [0, 1, 0, 1]
        np.testing.assert_array_equal(source.read(3), batch[3])
        assert source.fingerprint() == open_data(batch[:4], labels=[0, 1, 0, 1]).fingerprint()
    assert open_data(Items(lambda i: batch[i])).labels is None
    assert open_data([tmp_path / "a.png"]).read(0).shape == (8, 10, 3)
    assert open_data(TensorDataset(tensor, torch.arange(5))).labels.tolist() == [0, 1, 2, 3, 4]


def test_labels_are_taken_from_targets_without_reading(batch):
    def item(i):
        raise AssertionError("read")

    items = Items(item, targets=[1, 0, 1, 1], classes=["wolf", "fox"])
    assert (
        open_data(items).label_names() == ["fox", "wolf", "fox", "fox"]
        and open_data(items).classes[0] == "wolf"
    )
    assert open_data(Subset(items, [1, 2])).label_names() == ["wolf", "fox"]


def test_hugging_face_columns_are_read_without_the_images():
    class Column:
        names = ["ant", "bee"]

    class Rows(Items):
        def __getitem__(self, i):
            return [1, 0, 1] if i == "label" else self.item(i)

    def item(i):
        raise AssertionError("read")

    rows = Rows(item, 3, features={"image": None, "label": Column()})
    assert open_data(rows).label_names() == ["bee", "ant", "bee"]


def test_items_that_fail_are_damaged(batch):
    def item(i):
        if i == 2:
            raise OSError("gone")
        return batch[i], 1

    source = open_data(Items(item))
    assert source.labels.tolist() == [0, 0, -1, 0]
    with pytest.raises(Damaged, match="OSError: gone"):
        source.read(2)


def test_data_sets_that_do_not_serve_get_a_sentence():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(())

    for data, sentence in [
        (Stream(), "Stream is no data"),
        (Items(None, 0), "is empty"),
        (Items(lambda i: {"pixels?": 1}), "no image; its keys: 'pixels\\?'"),
    ]:
        with pytest.raises(TapetumError, match=sentence):
            open_data(data)
