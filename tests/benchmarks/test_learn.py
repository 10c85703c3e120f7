"""The learning table and the profile of a step in a tiny form, so that they do not rot."""

import pytest
import torch

from benchmark_modules import ROOT, load
from tapetum.methods import find
from tapetum.train import config, sandbox, setup
from tapetum.views import nest

WAYS = ("forwards", "backwards")
modules = ("learn", "learned", "looks", "rows", "speed", "where")
learn, learned, looks, rows, speed, where = map(load, modules)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Rows, runs and pages go into a folder of the test, recipes train for a few steps."""
    for module in (rows, learn, learned):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "RESULTS", tmp_path, raising=False)
    monkeypatch.setattr(learned, "PAGE", tmp_path / "methods.md")
    monkeypatch.setattr(learned, "PICTURE", tmp_path / "methods.png")
    monkeypatch.setattr(speed, "PAGE", tmp_path / "speed.md")
    return tmp_path


def test_every_recipe_names_a_method_and_settings_that_it_has():
    assert len(learn.recipes("cifar10-200-epochs")) >= 10
    for budget in ("two-minutes", "ten-minutes", "cifar10-200-epochs"):
        for one in learn.recipes(budget).values():
            own, groups = config.split(config.flattened(one.settings))
            groups = config.parsed(groups, own["method"])
            views = sandbox.build(find(own["method"])).views
            nest.configured(views, groups["views"])
            assert budget != "two-minutes" or one.kind in learn.KINDS


@pytest.mark.parametrize("name", sorted(f.stem for f in (ROOT / "benchmarks" / "lightlys").glob("*.py")))
def test_what_is_made_of_lightlys_modules_is_as_large_as_ours(name):
    """The same numbers of weights, the same settings, and a loss that reaches the encoder."""
    own = learn.recipes("two-minutes")[name]
    sizes = []
    for one in (own, own.of_lightly()):
        groups = config.split(config.flattened(one.settings))[1]
        file = str(ROOT / one.settings["method"]["name"]) if one is not own else name
        torch.manual_seed(0)
        kind = find(file)
        method = setup.build_method(
            kind, sandbox.small_encoder("vector"), sandbox.source(), 32, groups["method"]
        )
        method.train().loss(sandbox.one_batch(method), 0.5)["loss"].backward()
        assert all(p.grad is not None for p in method.encoder.parameters())
        weights = [p for p in method.parameters() if p.requires_grad and p.ndim > 1 and p.shape[1] > 1]
        sizes.append(sum(p.numel() for p in weights))
    assert sizes[0] == sizes[1]


def row(name, kind, linear, **more):
    facts = {"method": name, "kind": kind, "recipe": "r", "seconds": 100, "images_per_second": 9.0}
    facts |= {"memory": 10**9, "loss": 0.5, "health": "learning", "error": 0.005}
    free = {"RankMe": 100 * linear, "NESum": -linear}
    return {"row": name, "seed": 0, "machine": "m", "knn": linear - 0.02, "linear": linear} | (
        {**facts, "labelfree": free, **more} if kind else {"error": 0.005, "labelfree": free}
    )


def test_the_page_says_what_the_rows_say(kept):
    given = [
        row("simclr", "two views", 0.54, gap=3.0, gap_error=0.1),
        row("byol", "two views", 0.42),
        row("mae", "tokens", 0.51, trivial=1.0),
        row("supervised", "one view", 0.7),
        row("dino", "many views", 0.4),
        row("random weights (many views, one view, two views)", "", 0.31),
        row("random weights (tokens)", "", 0.41),
        row("pixels", "", 0.46),
        row("dino", "many views", 0.99, recipe="an earlier one"),
    ]
    for one in given:
        rows.keep(kept / "cifar10-two-minutes.jsonl", one)
    methods = ("simclr", "byol", "mae", "supervised", "dino")
    learned.write({"two-minutes": dict.fromkeys(methods, "r"), "ten-minutes": {}})
    lines = (kept / "methods.md").read_text().splitlines()

    def cells(name):
        (line,) = [line for line in lines if line.startswith(f"| {name} |")]
        return [cell.strip() for cell in line.strip("|").split("|")]

    assert cells("simclr")[1:6] == ["contrastive", "two views", "1", "52.0", "54.0"]
    assert cells("simclr")[6:10] == ["kNN", "+23.0 ± 0.7", "+8.0 ± 0.7", "30"]
    assert cells("mae")[6:10] == ["linear", "+10.0 ± 0.7", "+5.0 ± 0.7", "0.5 of 1"]
    assert cells("dino")[5] == "40.0"  # the row of another recipe does not count
    assert any(line.startswith("| RankMe | ResNet | 4 | ") for line in lines) is False  # too few methods
    assert (kept / "methods.png").stat().st_size > 1000
    said = (
        "Of 5 runs that ended more than three standard errors above random weights, the looks of 0 are kept."
    )
    assert any(said in line for line in lines)


def test_the_judge_is_asked_again(kept):
    """The verdict of a row is that of the judge as it stands, and whoever learnt nothing is named."""
    look = {
        "finite": 1.0,
        "differ": 50.0,
        "within": 40.0,
        "encoder_weights": 7.0,
        "resting": 0.0,
        "weights": 9.0,
    }
    look |= {"loss": 5.0, "losses": [5.0] * 4, "reads_labels": 0.0, "rank": 9.0, "dim": 64.0, "spread": 0.5}
    history = [{**look, "step": step, "verdict": "learning", "try": ""} for step in (0, 50)]
    one = row("simclr", "two views", 0.3, alarms=[])
    looks.keep(one, history)
    for given in (one, row("random weights (two views)", "", 0.3), row("pixels", "", 0.4)):
        rows.keep(kept / "cifar10-two-minutes.jsonl", given)
    learned.write({"two-minutes": {"simclr": "r"}, "ten-minutes": {}})
    said = (kept / "methods.md").read_text()
    assert "simclr did not: it was called flat at its end, and sick at 1 looks." in said
    assert "Of 0 runs" in said
    rows.keep(kept / "cifar10-two-minutes.jsonl", row("random weights (two views)", "", 0.1))
    learned.write({"two-minutes": {"simclr": "r"}, "ten-minutes": {}})
    said = (kept / "methods.md").read_text()
    assert "the looks of 1 are kept. 1 of these were called sick at some look (simclr): 1 of 2 looks." in said


@pytest.fixture
def photos(kept, write_photos, monkeypatch):
    """A folder as the archive of CIFAR-10 is, with a few pictures."""
    write_photos(kept)
    (kept / "data").mkdir()
    (kept / "photos").rename(kept / "data" / "train")
    monkeypatch.setattr(rows, "data", lambda name: kept / "data")


def given(name):
    return learn.recipe(ROOT / "recipes" / "two-minutes" / f"{name}.yaml")


def shortened(name, after=None):
    one = given(name)
    settings = {**one.settings, "steps": 2, "batch_size": 8, "precision": "fp32"}
    return learn.Recipe(
        name, {k: v for k, v in settings.items() if k != "epochs"}, one.kind, after=after or {}
    )


def test_a_method_trains_is_measured_and_is_not_trained_again(kept, photos, monkeypatch):
    monkeypatch.setattr(learn, "measure", lambda encoder: {"knn": 0.5, "linear": 0.6, "error": 0.1})
    one = shortened("simclr")
    for _ in range(2):
        learn.learn(one, 0, "two-minutes", kept / "rows.jsonl")
    (found,) = rows.kept(kept / "rows.jsonl")
    assert found["recipe"] == one.fingerprint and found["loss"] > 0 and found["health"]
    (watched,) = rows.kept(kept / "looks.jsonl")
    assert [look["step"] for look in watched["history"]] == [0, 2] and watched["recipe"] == one.fingerprint
    assert (kept / "runs" / "two-minutes" / f"simclr-{one.fingerprint}-0" / "encoder.safetensors").exists()


def test_what_comes_after_another_method_goes_on_from_its_run(kept, photos, monkeypatch):
    monkeypatch.setattr(learn, "measure", lambda encoder: {"knn": 0.5, "linear": 0.6, "error": 0.1})
    first = shortened("simclr")
    for name, setting in (("scan", "weights"), ("pcd", "method.teacher")):
        assert list(given(name).after) == [setting]
        one = shortened(name, {setting: first})
        assert one.fingerprint != shortened(name).fingerprint  # a row of one is none of the other
        learn.learn(one, 0, "two-minutes", kept / "rows.jsonl")
        folder = kept / "runs" / "two-minutes"
        said = config.read(folder / f"{name}-{one.fingerprint}-0" / "config.yaml")
        assert said[setting] == str(folder / f"simclr-{first.fingerprint}-0")
    assert [row["after"] for row in rows.kept(kept / "rows.jsonl")] == [["simclr"]] * 2


@pytest.mark.parametrize("name", ["byol", "mae"])
def test_the_parts_of_a_step_are_all_of_it(kept, photos, monkeypatch, name):
    monkeypatch.setattr(where, "recipes", lambda budget: {name: shortened(name)})
    monkeypatch.setattr(where, "cores", lambda: 1)
    shares, seconds = where.profile(name, 2)
    assert sum(shares.values()) == pytest.approx(1, abs=0.01) and seconds > 0
    assert min(shares.values()) >= 0  # no clock took what is another's
    wanted = {"encoder, forwards", "encoder, backwards", "heads, forwards", "heads, backwards", "views"}
    wanted |= {"loss, forwards", "loss, backwards", "optimiser", "after the step", "reading", "the rest"}
    assert set(shares) == wanted | ({"teacher"} if name == "byol" else set())
    assert min(shares[f"{part}, {way}"] for part in ("encoder", "heads") for way in WAYS) > 0


def test_clocks_take_inner_parts_out_of_outer_ones(monkeypatch):
    times = iter([0.0, 1.0, 3.0, 3.0, 7.0, 10.0])
    monkeypatch.setattr(where.time, "perf_counter", lambda: next(times))
    clocks = where.Clocks()
    with clocks.timed("outer"), clocks.timed("inner"):
        clocks.switch("later")
    assert clocks.seconds == {"inner": 2.0, "later": 4.0, "outer": 4.0}
