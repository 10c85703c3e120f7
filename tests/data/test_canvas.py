"""The canvas: the same pixels in memory and from any number of threads, and damage that stops nothing."""

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tapetum.base.errors import TapetumError
from tapetum.data import open_data
from tapetum.data.canvas import Canvas, free_memory, squash


@pytest.fixture
def photos(write, png):
    """20 images of different sizes of which 3, 4 and 19 cannot be read."""
    files = {f"{i:02d}.png": png(i, 8 + i, 12) for i in range(20)}
    for i in (3, 4, 19):
        files[f"{i:02d}.png"] = files[f"{i:02d}.png"][:60]
    return open_data(write(files))


def batches():
    return [torch.tensor([0, 3, 5]), torch.tensor([19]), torch.arange(20), torch.tensor([4, 4])]


def test_pixels_of_the_asked_size_pass_bit_for_bit(write, png, picture):
    source = open_data(write({f"{i}.png": png(i, 8, 8) for i in range(3)}))
    for limit in (None, 0):
        pixels, sizes = Canvas(source, 8, limit, workers=0).fetch(torch.tensor([2, 0]))
        assert pixels.dtype == torch.uint8 and pixels.is_contiguous() and sizes.dtype == torch.float32
        np.testing.assert_array_equal(pixels[0].permute(1, 2, 0).numpy(), picture(2, 8, 8))


def test_true_sizes_are_kept_and_resizing_averages(write):
    root = write({})
    root.mkdir()
    stripes = np.zeros((64, 128), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(root / "a.png")
    pixels, sizes = Canvas(open_data(root), 16, workers=1).fetch(torch.tensor([0]))
    assert sizes.tolist() == [[64, 128]] and pixels.shape == (1, 3, 16, 16)
    assert 110 < pixels.min() <= pixels.max() < 145  # not aliased to black or white


def test_jpeg_drafts_keep_the_true_size(write):
    root = write({})
    root.mkdir()
    Image.linear_gradient("L").resize((900, 700)).save(root / "a.jpg", quality=95)
    source = open_data(root)
    pixels, size = squash(source, 0, 64)
    full = np.asarray(Image.fromarray(source.read(0)).resize((64, 64), Image.Resampling.BOX)).transpose(
        2, 0, 1
    )
    assert size == (700, 900) and np.abs(pixels.astype(int) - full).max() <= 4


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_memory_and_workers_change_nothing(photos, workers):
    held = Canvas(photos, 8, max_damaged=0.2, workers=1)
    streamed = Canvas(photos, 8, 0, max_damaged=0.2, workers=workers)
    assert held.in_memory and not streamed.in_memory
    for _ in range(2):  # two epochs through the same threads
        for (a, b), (c, d) in zip(held.iterate(batches()), streamed.iterate(batches()), strict=True):
            torch.testing.assert_close((a, b), (c, d), rtol=0, atol=0)
    torch.testing.assert_close(held.fetch(batches()[2]), streamed.fetch(batches()[2]), rtol=0, atol=0)
    assert sorted(row["path"] for row in streamed.skipped) == ["03.png", "04.png", "19.png"]
    assert held.skipped == sorted(streamed.skipped, key=lambda row: row["path"])


def test_an_epoch_that_is_left_early_leaves_nothing_behind(photos):
    streamed = Canvas(photos, 8, 0, max_damaged=0.2, workers=2)
    next(iter(streamed.iterate([torch.tensor([i]) for i in range(20)])))
    ((pixels, _),) = streamed.iterate([torch.tensor([7])])
    torch.testing.assert_close(pixels, streamed.fetch(torch.tensor([7]))[0], rtol=0, atol=0)


def test_reading_ahead_leaves_the_generator_of_training_alone(photos):
    streamed = Canvas(photos, 8, 0, max_damaged=0.2, workers=1)
    torch.manual_seed(0)
    list(streamed.iterate(batches()))
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


def test_damaged_images_have_stand_ins_and_are_recorded_once(photos):
    canvas = Canvas(photos, 8, max_damaged=0.2)
    pixels, sizes = canvas.fetch(torch.tensor([3, 4, 5, 19, 0]))
    assert torch.equal(pixels[0], pixels[2]) and torch.equal(pixels[1], pixels[2])
    assert torch.equal(pixels[3], pixels[4]) and torch.equal(sizes[3], sizes[4])
    assert canvas.shown(torch.tensor([3, 4, 5, 19, 0])).tolist() == [5, 5, 5, 0, 0]
    assert [row["path"] for row in canvas.skipped] == ["03.png", "04.png", "19.png"]
    assert all(row["reason"] for row in canvas.skipped)


@pytest.mark.parametrize("limit", [None, 0])
def test_too_much_damage_is_a_sentence(photos, limit):
    with pytest.raises(
        TapetumError, match=r"3 of 20 images of photos cannot be read.*0\.1.*03\.png: .*; 04\.png: "
    ):
        for workers in (0, 2):
            list(Canvas(photos, 8, limit, workers=workers).iterate(batches()))


def test_nothing_readable_is_a_sentence_even_where_all_damage_is_allowed(write):
    source = open_data(write({f"{i}.png": b"broken" for i in range(3)}))
    for limit in (None, 0):
        with pytest.raises(TapetumError, match="3 of 3 images"):
            Canvas(source, 8, limit, max_damaged=1.0).fetch(torch.tensor([0]))


def test_free_memory_is_plausible():
    assert 2**20 < free_memory() < 2**50


def test_reading_stays_a_few_batches_ahead(photos):
    streamed, taken = Canvas(photos, 8, 0, max_damaged=0.2, workers=1), []
    batches = (taken.append(i) or torch.arange(i, i + 16) % 20 for i in range(40))
    for given, _ in enumerate(streamed.iterate(batches), 1):
        assert len(taken) == min(40, given + 4)
    assert given == 40


def test_a_file_that_goes_while_others_are_read_has_a_stand_in_from_then_on(write, png):
    root = write({f"{i:02d}.png": png(i, 8, 8) for i in range(40)})
    streamed, told = Canvas(open_data(root), 8, 0, workers=1), []
    streamed.on_damage = told.append
    order = torch.arange(40)
    epoch = streamed.iterate(order.repeat(8).split(4))
    first = torch.cat([next(epoch)[0] for _ in range(10)])
    (root / "07.png").unlink()
    (root / "20.png").write_bytes(png(20, 8, 8)[:70])
    for _ in range(30):
        next(epoch)
    told.sort(key=lambda row: row["path"])  # either may have been read before it went
    assert told == streamed.skipped and [row["path"] for row in told] == ["07.png", "20.png"]
    assert told[0]["reason"] == "no such file or directory"
    assert streamed.shown(order).tolist() == [8 if i == 7 else 21 if i == 20 else i for i in range(40)]
    later = torch.cat([pixels for pixels, _ in epoch])[-40:]
    assert torch.equal(later, first[streamed.shown(order)])


def test_threads_take_no_threads_of_their_own(write):
    root = write({})
    root.mkdir()
    for i in range(30):
        Image.effect_noise((300, 200), 80).convert("RGB").save(root / f"{i}.jpg")
    torch.set_num_threads(2)
    try:
        streamed = Canvas(open_data(root), 64, 0, workers=3)
        before = threads()
        list(streamed.iterate(torch.arange(30).split(8)))
        assert before < threads() <= before + 3 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def threads() -> int:
    folder = Path("/proc/self/task")
    if not folder.exists():
        pytest.skip("needs /proc to count threads")
    return len(list(folder.iterdir()))


def test_memory_stays_flat_over_ten_epochs(write):
    root = write({})
    root.mkdir()
    for i in range(100):
        Image.effect_noise((128, 128), 80).convert("RGB").save(root / f"{i}.jpg")
    streamed = Canvas(open_data(root), 128, 0, workers=2)  # 4.9 MB an epoch
    page, used = resource.getpagesize(), []
    for epoch in range(10):
        for pixels, _ in streamed.iterate(streamed.order(0, epoch).split(16)):
            assert len(pixels) in (4, 16)
        used.append(int(Path("/proc/self/statm").read_text().split()[1]) * page)
    assert used[-1] - used[2] < 15e6, "one epoch that is kept in each would be 34 MB"
