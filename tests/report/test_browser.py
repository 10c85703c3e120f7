"""Report and dashboard in headless Chromium: no console error, no request to anything but file or server."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from small_pages import EVIL, browser, opened, served
from small_results import result, said, write
from small_runs import by_hand, write_rows

DESK = {"viewport": {"width": 1200, "height": 900}}
PHONE = {"viewport": {"width": 375, "height": 800}, "has_touch": True, "is_mobile": True}
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
COLOURED = "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
ONE_ERROR = """() => {
  const notes = document.getElementById("notes");
  notes.replaceChildren = () => { delete notes.replaceChildren; throw new Error(); };
  addEventListener("unhandledrejection", (event) => event.preventDefault());
}"""


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


def places(tab, data) -> list[tuple[float, float]]:
    """Where the images of a map are, in the window."""
    tab.locator("#plot").scroll_into_view_if_needed()
    box = tab.locator("#plot").bounding_box()
    wide, high = box["width"] - 28, box["height"] - 28
    both = zip(data["x"], data["y"])
    return [(box["x"] + 14 + x / 1000 * wide, box["y"] + 14 + (1 - y / 1000) * high) for x, y in both]


def legend(tab, words: str):
    return tab.locator("#legend").get_by_role("button", name=re.compile(f"^{words}"))


def draw(tab, corners) -> None:
    """A line through these corners, with the mouse."""
    tab.mouse.move(*corners[0])
    tab.mouse.down()
    for corner in [*corners[1:], corners[0]]:
        tab.mouse.move(*corner, steps=4)
    tab.mouse.up()


def around(points, room: float) -> list[tuple[float, float]]:
    xs, ys = zip(*points)
    left, right, top, bottom = min(xs) - room, max(xs) + room, min(ys) - room, max(ys) + room
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def saved(tab, to: Path) -> list[dict]:
    """The rows of the selection's file list."""
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save as a file list").click()
    assert download.value.suggested_filename == "selection.csv"
    download.value.save_as(to)
    with to.open(newline="") as file:
        return list(csv.DictReader(file))


# ---- a report ----


def test_pointing_filtering_and_walking(chromium, measured, whole):
    data = whole.data["atlas-data"]
    with opened(chromium, measured / "run" / "report.html", **DESK) as tab:
        assert tab.locator("#legend").get_attribute("data-shown") == "24"
        legend(tab, "dog").click()
        assert tab.locator("#legend").get_attribute("data-shown") == "12"
        legend(tab, "all").click()
        assert tab.locator("#legend").get_attribute("data-shown") == "24"
        tab.locator("#plot").focus()
        tab.keyboard.press("ArrowRight")
        first = int(tab.locator("#seen").get_attribute("data-image"))
        shown = tab.locator("#seen").inner_text()
        assert data["name"][first] in shown and "most similar" in shown
        tab.locator("#seen button").first.click()
        assert int(tab.locator("#seen").get_attribute("data-image")) == data["near"][first][0]
        assert tab.locator("#seen canvas.big").evaluate(COLOURED) > 20
        assert tab.locator("canvas.thumb").first.evaluate(COLOURED) > 20
        light = tab.evaluate(BACKGROUND)
    with opened(chromium, measured / "run" / "report.html", color_scheme="dark") as tab:
        assert tab.evaluate(BACKGROUND) != light


def test_a_lasso_selects_and_the_selection_is_saved(chromium, measured, whole, tmp_path):
    data = whole.data["atlas-data"]
    with opened(chromium, measured / "run" / "report.html", **DESK) as tab:
        at, panel = places(tab, data), tab.locator("#selection")
        assert panel.is_hidden()
        draw(tab, around(at, 9))
        assert panel.get_attribute("data-count") == "24"
        legend(tab, "dog").click()
        draw(tab, around(places(tab, data), 9))  # only what is shown can be selected
        assert panel.get_attribute("data-count") == "12"
        rows = saved(tab, tmp_path / "list.csv")
        dogs = [name for name in data["name"] if name.startswith("dog/")]
        assert [row["path"] for row in rows] == dogs and {row["label"] for row in rows} == {"dog"}
        legend(tab, "all").click()
        one = around([places(tab, data)[0]], 5)
        draw(tab, one)
        within = {i for i, (x, y) in enumerate(places(tab, data))
                  if one[0][0] < x < one[1][0] and one[0][1] < y < one[2][1]}  # fmt: skip
        assert 0 in within and panel.get_attribute("data-count") == str(len(within))
        assert [row["path"] for row in saved(tab, tmp_path / "list.csv")] == [
            data["name"][i] for i in sorted(within)
        ]
        x, y = places(tab, data)[0]
        far = max(
            range(24), key=lambda i: abs(places(tab, data)[i][0] - x) + abs(places(tab, data)[i][1] - y)
        )
        tab.mouse.move(*places(tab, data)[far])  # a line is no click, so that pointing still shows images
        assert tab.locator("#seen").get_attribute("data-image") == str(far)
        tab.mouse.click(*places(tab, data)[0])
        chosen = int(tab.locator("#seen").get_attribute("data-image"))
        tab.keyboard.press(" ")
        assert panel.get_attribute("data-count") == str(len(within ^ {chosen}))
        tab.get_by_role("button", name="Clear").click() if panel.is_visible() else None
        assert panel.is_hidden()


def test_it_can_be_read_on_a_phone(chromium, measured, whole):
    data = whole.data["atlas-data"]
    with opened(chromium, measured / "run" / "report.html", **PHONE) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= 375
        tab.touchscreen.tap(*places(tab, data)[0])
        assert data["name"][0] in tab.locator("#seen").inner_text()
        finger = tab.get_by_role("button", name="Draw with a finger")
        finger.click()
        assert tab.locator("#plot").evaluate("p => getComputedStyle(p).touchAction") == "none"


# ---- the dashboard ----


@pytest.fixture
def runs(measured, tmp_path) -> Path:
    """Of all kinds, one with an evil name; `real` has images to show."""
    folder = tmp_path / "runs"
    shutil.copytree(measured / "run", folder / "real", ignore=shutil.ignore_patterns("*.html"))
    by_hand(folder / EVIL, method="byol", temperature=0.5)
    by_hand(folder / "unlabelled", labels=False, verdict="collapsing")
    by_hand(folder / "silent", silent=9999)
    damaged = by_hand(folder / "damaged")
    (damaged / "metrics.jsonl").write_text("{\n" + (damaged / "metrics.jsonl").read_text())
    (by_hand(folder / "unreadable") / "config.yaml").write_text("a: [1")
    return folder


def named(tab) -> list[str]:
    return [link.inner_text() for link in tab.locator("#runs tr:visible a").all()]


def test_runs_are_told_filtered_and_drawn(chromium, runs, tmp_path):
    with served([runs], tmp_path) as server, opened(chromium, server.url, **DESK) as tab:
        tab.wait_for_selector("#runs tr")
        assert set(named(tab)) == {"real", EVIL, "unlabelled", "silent", "damaged", "unreadable"}
        shown = tab.locator("#table").inner_text()
        said = ["no labels, so no kNN", "It was killed, or it hangs", "1 line of metrics.jsonl is damaged"]
        said += ["is not readable YAML", "collapsing", "before 20.0 %", "running", "finished", "6 of 6 runs"]
        for words in said:
            assert words in shown
        assert re.search(r"0\.\d{3} ± 0\.\d{3}", shown) and "random 0." in shown
        tab.fill("#search", "IMG onerror")
        assert named(tab) == [EVIL]
        tab.fill("#search", "method.temperature=0.5")
        assert named(tab) == [EVIL]
        tab.fill("#search", "")
        tab.locator("select[data-setting=method]").select_option("=byol")
        assert named(tab) == [EVIL]
        tab.locator("select[data-setting=method]").select_option("")
        tab.locator("#rest summary").click()
        tab.locator("select[data-setting='method.temperature']").select_option("=0.5")
        assert named(tab) == [EVIL]
        tab.locator("select[data-setting='method.temperature']").select_option("")
        tab.select_option("#sort", "name")
        assert named(tab)[0] == EVIL and named(tab)[-1] == "unreadable"
        tab.get_by_role("button", name="Select none").click()
        assert "Select runs in the table" in tab.locator("#drawings").inner_text()
        tab.get_by_label("Draw the curves of silent").check()
        tab.get_by_label("Draw the curves of unlabelled").check()
        tab.wait_for_selector("[data-number=loss] polyline >> nth=1", state="attached")
        assert tab.locator("[data-number=knn] polyline").count() == 1
        assert tab.locator("[data-number=health] .bad").count() == 3
        tab.get_by_role("button", name="loss", exact=True).click()
        assert tab.locator("[data-number=loss]").count() == 0
        light = tab.evaluate(BACKGROUND)
        with opened(chromium, server.url, color_scheme="dark", **PHONE) as phone:
            phone.wait_for_selector("#runs tr")
            assert phone.evaluate("document.documentElement.scrollWidth") <= 375
            assert phone.evaluate(BACKGROUND) != light
            assert phone.locator("#runs tr td:visible").count() > 30


def test_what_goes_on_is_shown_as_it_goes_on(chromium, tmp_path):
    going = by_hand(tmp_path / "runs" / "going")
    with served([tmp_path / "runs"], tmp_path) as server, opened(chromium, server.url, **DESK) as tab:
        tab.wait_for_selector("svg[aria-label='loss: going 0.25']")
        write_rows(going, 20, 30)
        tab.wait_for_selector("svg[aria-label='loss: going 0.1667']", timeout=60_000)
        points = tab.locator("[data-number=loss] polyline").get_attribute("points")
        assert len(points.split()) == 24
        assert "step 290 of 1,000" in tab.locator("#runs").inner_text()
        by_hand(tmp_path / "runs" / "another")
        tab.wait_for_selector("#runs tr:nth-child(2)", timeout=60_000)


def test_strange_names_are_text_and_freeze_nothing(chromium, tmp_path):
    runs, names = tmp_path / "runs", ["__proto__", "constructor", EVIL]
    strange = by_hand(runs / EVIL, method=EVIL, verdict=EVIL)
    by_hand(runs / "plain")
    with (strange / "config.yaml").open("a") as settings:
        settings.write("constructor: a\n__proto__: b\nstate: mine\n")
    with (strange / "metrics.jsonl").open("a") as metrics:
        for i in range(3):
            metrics.write(json.dumps({"step": 200 + i} | dict.fromkeys(names, 1 + i // 2 * 2**-52)) + "\n")
    with served([runs], tmp_path) as server, opened(chromium, server.url, **DESK) as tab:
        tab.wait_for_selector("#others button >> nth=2", state="attached")
        tab.locator("details", has=tab.locator("#others")).locator("summary").click()
        for i in range(3):
            tab.locator("#others button").nth(i).click()
        drawn = [one.get_attribute("data-number") for one in tab.locator("#drawings figure").all()]
        assert set(names) < set(drawn)
        assert tab.locator("img").count() == 0 and EVIL in tab.locator("#drawings").inner_text()
        assert tab.locator("#runs .state").all_inner_texts() == ["running", "running"]
        assert tab.locator("[data-setting=state]").count() == 0
        assert tab.locator("[data-setting=constructor], [data-setting=__proto__]").count() == 2
        by_hand(runs / "later")
        tab.evaluate(ONE_ERROR)
        tab.wait_for_selector("#runs tr >> nth=2", timeout=60_000)  # it asks again, and for what was lost


def test_an_open_filter_stays_while_counts_change(chromium, tmp_path):
    runs = tmp_path / "runs"
    for name, verdict in (("a", "learning"), ("b", "learning"), ("c", "collapsing")):
        by_hand(runs / name, verdict=verdict)
    write(runs / "a" / "results.json", *(result(said(0.5, i), "own", name=f"probe{i}") for i in range(7)))
    with served([runs], tmp_path) as server, opened(chromium, server.url, **DESK) as tab:
        choice = tab.locator("select[data-setting=health]")
        choice.evaluate("one => { one.mine = true; }")
        words = "Of 7 numbers that were measured the first 6 are shown."
        assert words in tab.locator("#told").inner_text()
        with (runs / "b" / "health.jsonl").open("a") as health:
            health.write(json.dumps({"step": 200, "verdict": "collapsing"}) + "\n")
        tab.wait_for_selector("option:text-is('collapsing (2)')", state="attached", timeout=60_000)
        assert choice.evaluate("one => one.mine")


def test_an_empty_folder_says_so(chromium, tmp_path):
    (tmp_path / "runs").mkdir()
    with served([tmp_path / "runs"], tmp_path) as server, opened(chromium, server.url, **DESK) as tab:
        tab.wait_for_selector("#notes p")
        assert "is empty. A run appears here" in tab.locator("#notes").inner_text()
        assert "There is no run yet." in tab.locator("#told").inner_text()


def test_a_click_opens_the_page_of_a_run(chromium, runs, measured, whole, tmp_path):
    with served([runs], tmp_path) as server, opened(chromium, server.url, **DESK) as tab:
        with tab.expect_popup() as opening:
            tab.get_by_role("link", name="real").click()
        popup = opening.value
        popup.wait_for_selector("#plot", timeout=300_000)
        assert "Run real" in popup.title()
        data = whole.data["atlas-data"]
        draw(popup, around(places(popup, data), 9))
        assert popup.locator("#selection").get_attribute("data-count") == "24"
        assert len(saved(popup, tmp_path / "list.csv")) == 24
        popup.mouse.click(*places(popup, data)[0])
        assert popup.locator("#seen .similar button").count() == 6
    assert not (runs / "real" / "report.html").exists()
