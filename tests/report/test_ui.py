"""The dashboard without a browser: who is answered, what it says of runs of every kind, how it ends."""

import html
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import tapetum
from small_pages import EVIL, Read, awaited, served
from small_results import result, said, write
from small_runs import by_hand, write_rows
from tapetum import cli
from tapetum.base.errors import TapetumError
from tapetum.report import making
from tapetum.report.dashboard import front
from tapetum.report.server import Server, hosts
from tapetum.report.story import FRESH
from tapetum.report.watched import Dashboard, Watched

SILENT = FRESH + 999


@pytest.fixture
def runs(tmp_path) -> Path:
    """A folder with one run."""
    by_hand(tmp_path / "runs" / "first")
    return tmp_path / "runs"


@pytest.fixture
def server(runs, tmp_path):
    with served([runs], tmp_path) as server:
        yield server


def ask(server: Server, path: str, method: str = "GET", host: str | None = None) -> tuple[int, str, dict]:
    """(status, content, headers); the path goes over the line just as it is."""
    connection = http.client.HTTPConnection(*server.server_address, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", f"127.0.0.1:{server.server_address[1]}" if host is None else host)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), dict(answer.getheaders())
    connection.close()
    return found


def told(*places: Path) -> dict[str, dict]:
    """What is said of each run, by name."""
    return {run["name"]: run for run in Dashboard(list(map(str, places))).changes(0)["runs"].values()}


# ---- who is answered ----


def test_without_the_token_nothing_is_said(server):
    [run] = server.dashboard.changes(0)["ids"]
    places = ("", "runs.json", f"rows.json?{run}=", f"run/{run}")
    tokens = ("", "wrong/", "the-toke/", "the-token-/", "%74he-token/")
    for path in ["*", *(f"/{token}{place}" for token in tokens for place in places)]:
        status, content, _ = ask(server, path)
        assert status == 403 and not any(word in content for word in ("first", "loss", "the-token"))
    assert ask(server, "/the-token/")[0] == 200
    assert "first" in ask(server, "/the-token/runs.json")[1]


def test_only_get_is_answered(server):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "INVENTED"):
        status, content, headers = ask(server, "/the-token/", method)
        assert status == 405 and headers["Allow"] == "GET" and "Runs side by side" not in content


def test_only_its_own_names_are_answered(server):
    port = server.server_address[1]
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        f"127.0.0.1:{port + 1}",
        "",
        f"localhost.evil:{port}",
    ):
        assert ask(server, "/the-token/", host=host)[0] == 403
    assert ask(server, "/the-token/", host=f"LOCALHOST:{port}")[0] == 200
    assert server.server_address[0] == "127.0.0.1"
    assert {"127.0.0.1", "localhost", "localhost:80"} < set(hosts(80))  # where browsers leave the port out


def test_no_path_leads_out(server, runs):
    (runs / "secret.txt").write_text("secret")
    [run] = server.dashboard.changes(0)["ids"]
    paths = ["secret.txt", "../secret.txt", "run/", "run/first", "run/../secret.txt", "run//etc/passwd"]
    paths += [
        f"run/{run}/config.yaml",
        f"run/{run}/../../secret.txt",
        f"run/..%2f{run}",
        "run/%2e%2e/secret.txt",
    ]
    for path in paths:
        status, content, _ = ask(server, f"/the-token/{path}")
        assert status == 404 and content == "There is no such page here."
    assert ask(server, f"/the-token/rows.json?../../x=0&{run}=1-2-3&{run}x=")[0] == 200


def test_links_out_of_the_folder_are_left_alone(runs, tmp_path):
    hidden = by_hand(tmp_path / "elsewhere" / "hidden")
    (runs / "link").symlink_to(tmp_path / "elsewhere" / "hidden")
    (runs / "more").symlink_to(tmp_path / "elsewhere")
    (runs / "round").symlink_to(runs)
    (runs / "lent").mkdir()
    (runs / "lent" / "config.yaml").symlink_to(hidden / "config.yaml")
    assert list(told(runs)) == ["first"]


def test_what_cannot_be_looked_at_hides_no_runs(runs):
    (runs / "ring").symlink_to("ring")
    (runs / "long").mkdir()
    (runs / "long" / "config.yaml").symlink_to(300 * "x")
    assert list(told(runs)) == ["first"]


def test_a_run_that_goes_while_it_is_asked_for_is_not_there(server):
    class Going(dict):
        def __contains__(self, run):
            return True

    server.dashboard.runs = Going()
    assert ask(server, "/the-token/run/x")[0] == 404


def test_answers_are_kept_from_other_pages(server):
    _, content, headers = ask(server, "/the-token/")
    assert headers["Referrer-Policy"] == "no-referrer" and headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Python" not in headers["Server"]
    content = html.unescape(content)
    assert "default-src 'none'" in content and "connect-src 'self'" in content and "unsafe" not in content


# ---- what is said ----


def test_each_kind_of_run_is_told_rightly(tmp_path):
    runs = tmp_path / "runs"
    by_hand(runs / "going")
    by_hand(runs / "group" / "silent", silent=SILENT)
    stopped = by_hand(runs / "stopped", silent=SILENT)
    (stopped / "checkpoints" / "step_00000190").mkdir(parents=True)
    by_hand(runs / "unlabelled", labels=False, verdict="flat")
    new = by_hand(runs / "new", rows=0, silent=SILENT)
    (new / "metrics.jsonl").unlink()
    (by_hand(runs / "broken") / "config.yaml").write_text("a: [1")
    (by_hand(runs / "done", silent=SILENT) / "encoder.json").write_text("{}")
    write(
        runs / "done" / "results.json",
        result(said(0.8, 1), "own"),
        result(said(0.4, 2), "r", "random weights"),
    )
    found = told(runs)
    states = {name: run["state"] for name, run in found.items()}
    assert states == {
        "going": "running",
        "group/silent": "silent",
        "stopped": "stopped",
        "unlabelled": "running",
        "new": "not begun",
        "broken": "damaged",
        "done": "finished",
    }
    assert found["going"]["knn"] == pytest.approx([0.2, 0.215]) and found["going"]["epoch"] == pytest.approx(
        1.9
    )
    assert (
        found["going"]["word"] == "learning"
        and found["going"]["well"] is True
        and not found["going"]["notes"]
    )
    assert found["group/silent"]["notes"] == [
        "It was killed, or it hangs; it has no checkpoint. "
        f"Go on with: tapetum pretrain --resume {runs}/group/silent"
    ]
    assert "All that it had logged is saved." in found["stopped"]["notes"][0]
    assert found["unlabelled"]["knn"] is None and found["unlabelled"]["well"] is False
    assert found["unlabelled"]["no_knn"] == "no labels, so no kNN"
    assert found["new"]["notes"] == ["It has logged nothing yet."] and found["new"]["epoch"] is None
    assert "is not readable YAML" in found["broken"]["notes"][0]
    [number] = found["done"]["results"]
    assert number["name"] == "knn accuracy" and "±" in number["shown"] and "±" in number["random"]
    assert found["done"]["settings"]["method.temperature"] == "0.1"


def test_damaged_lines_are_said_and_the_others_count(runs):
    metrics = runs / "first" / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    metrics.write_text("\n".join([*lines[:7], '{"step": 7, "lo', *lines[7:], '{"half']))
    (runs / "first" / "results.json").write_text("[]")
    run = told(runs)["first"]
    assert run["notes"][0] == "1 line of metrics.jsonl is damaged and left out."
    assert "holds no results" in run["notes"][1] and run["step"] == 190


def test_a_training_that_broke_is_no_run_that_goes_on(runs):
    with (runs / "first" / "health.jsonl").open("a") as health:
        row = {"step": 195, "broken": "the loss is nan", "verdict": "diverging", "why": "the loss is nan"}
        health.write(json.dumps(row) + "\n")
    run = told(runs)["first"]
    assert run["state"] == "broken" and run["well"] is False and "Its training broke" in run["notes"][0]


def test_only_what_is_new_is_told(runs):
    dashboard = Dashboard([str(runs)])
    before = dashboard.changes(0)
    assert dashboard.changes(before["revision"])["runs"] == {}
    [run] = before["ids"]
    first = dashboard.rows({run: ""})[run]
    assert first["fresh"] and first["series"]["loss"][0][:3] == [10, 20, 30]
    assert [look[:2] for look in first["looks"]] == [
        [0, "beginning"],
        [50, "learning"],
        [100, "learning"],
        [150, "learning"],
    ]
    write_rows(runs / "first", 20, 23)
    then = dashboard.rows({run: first["cursor"]})[run]
    assert (
        not then["fresh"] and then["series"]["loss"][0] == [210, 220] and then["series"]["rank"][0] == [200]
    )
    assert then["looks"] == [] and dashboard.rows({run: then["cursor"]})[run]["series"] == {}
    assert list(dashboard.changes(before["revision"])["runs"]) == [run]
    metrics = runs / "first" / "metrics.jsonl"  # it goes on from an earlier step
    (runs / "cut").write_text("\n".join(metrics.read_text().splitlines()[:5]) + "\n")
    (runs / "cut").replace(metrics)
    again = dashboard.rows({run: then["cursor"]})[run]
    assert again["fresh"] and again["series"]["loss"][0] == [10, 20, 30, 40]


def test_runs_come_and_go(runs):
    dashboard = Dashboard([str(runs), str(runs / "first")])
    assert len(dashboard.changes(0)["ids"]) == 1
    by_hand(runs / "second")
    assert sorted(run["name"] for run in dashboard.changes(0)["runs"].values()) == [
        "runs/first",
        "runs/second",
    ]
    (runs / "first" / "config.yaml").unlink()
    assert len(dashboard.changes(0)["ids"]) == 1


def test_names_are_data(server, runs):
    by_hand(runs / EVIL, method=EVIL)
    _, content, headers = ask(server, "/the-token/runs.json")
    assert headers["Content-Type"].startswith("application/json")
    assert headers["X-Content-Type-Options"] == "nosniff"  # or a browser might take it for a page
    [evil] = [run for run in json.loads(content)["runs"].values() if run["name"] == EVIL]
    assert evil["settings"]["method"] == EVIL


def test_numbers_beyond_all_measure_are_left_out(server, runs):
    row = {"step": 200, "epoch": 10**400, "loss": 10**400, "huge": 1.7e308}
    with (runs / "first" / "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps(row) + "\n")
    config = runs / "first" / "config.yaml"
    config.write_text(config.read_text().replace("steps: 1000", "steps: .inf"))
    [run] = json.loads(ask(server, "/the-token/runs.json")[1])["runs"].values()
    assert (run["state"], run["step"], run["steps"]) == ("running", 200, 0)
    rows = json.loads(ask(server, f"/the-token/rows.json?{run['id']}=")[1])[run["id"]]
    assert "huge" not in rows["series"] and 200 not in rows["series"]["loss"][0]


def test_places_without_runs_are_said(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    notes = Dashboard([str(tmp_path / "empty"), str(tmp_path / "photos")]).changes(0)["notes"]
    assert notes[0].startswith(f"{tmp_path / 'empty'} is empty.") and "holds no run" in notes[1]
    for typed, words in (
        ([], "ui needs runs"),
        ([tmp_path / "gone"], "is not there"),
        ([__file__], "is no folder"),
    ):
        assert cli.main(["ui", *map(str, typed)]) == 2
        assert words in capsys.readouterr().err


# ---- pages of runs ----


def made(reports: making.Reports, run: Watched) -> str:
    """The page of a run, once it is no longer in the making."""

    def page() -> str:
        shown, headers = reports.page(run)
        assert ("Refresh" in headers) == (b"it appears here by itself" in shown)
        return "" if "Refresh" in headers else shown.decode()

    return awaited(page)


def test_a_page_is_made_once_and_anew_when_the_run_went_on(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "KEPT", 0)
    begun = []

    def begin(reports, run):
        begun.append(run.name)
        reports._file(run).write_text(f"page {len(begun)}")
        return subprocess.Popen(["sleep", "0.2"])

    monkeypatch.setattr(making.Reports, "_begin", begin)
    reports, run = making.Reports(tmp_path), Watched(runs / "first", "first")

    assert made(reports, run) == made(reports, run) == "page 1" and len(begun) == 1
    write_rows(runs / "first", 20, 21)
    time.sleep(0.01)
    assert made(reports, run) == "page 2"
    reports.close()


def test_a_page_that_cannot_be_made_says_why(runs, tmp_path, monkeypatch):
    def begin(reports, run):
        reports._said(run).write_text(json.dumps({"error": f"{EVIL} is no run."}))
        return subprocess.Popen(["false"])

    monkeypatch.setattr(making.Reports, "_begin", begin)
    reports, run = making.Reports(tmp_path), Watched(runs / "first", EVIL)
    (tmp_path / "page.html").write_text(made(reports, run))
    found = Read(tmp_path / "page.html")
    assert f"Its page cannot be made: {EVIL} is no run." in found.shown and found.handlers() == []
    assert "Refresh" in reports.page(run)[1]  # who asks again has it tried again
    reports.close()


def test_a_page_that_hangs_is_ended_and_holds_up_no_other(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "LONGEST", 0)
    monkeypatch.setattr(making.Reports, "_begin", lambda *_: subprocess.Popen(["sleep", "60"]))
    reports, first = making.Reports(tmp_path), Watched(runs / "first", "first")
    reports.page(first)
    assert b"It is being made" in reports.page(Watched(by_hand(runs / "second"), "second"))[0]
    assert b"it took more than 0 minutes, and was ended" in reports.page(first)[0]
    reports.close()


def test_a_page_is_made_by_this_package_whatever_lies_around(tmp_path, monkeypatch):
    package, runs = tmp_path / "ours" / "tapetum", tmp_path / "runs"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import json, sys\nprint(json.dumps(sys.argv))")
    by_hand(runs / "-x")
    (runs / "tapetum.py").write_text("print('a stranger')")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.chdir(runs)
    reports, run = making.Reports(tmp_path), Watched(Path("-x"), "-x")
    reports.page(run)
    reports.making[run.id].process.wait(60)
    typed = json.loads(reports._said(run).read_text())
    assert typed[1:3] == ["report", str(Path.cwd() / "-x")]


# ---- the verb ----


def test_a_busy_port_is_one_sentence(runs, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TapetumError, match=rf"port {port} cannot be had: .*choose another --port"):
            Server(Dashboard([str(runs)]), front().html(), port, "t", tmp_path)


def test_it_says_where_it_is_and_ends_with_ctrl_c(runs):
    command = [sys.executable, "-m", "tapetum", "ui", str(runs), "--port", "0"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGINT, before)
        watch = threading.Timer(300, process.kill)
        watch.start()
        line = process.stdout.readline()
        assert line.startswith("1 run at http://127.0.0.1:") and len(line.split("/")[3]) >= 32
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        watch.cancel()
    assert process.returncode == 0 and out.endswith("ended.\n") and err == ""


def test_it_opens_the_browser_only_when_asked(runs, monkeypatch):
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    monkeypatch.setattr(Server, "serve_forever", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    tapetum.ui(str(runs), port=0)
    assert shown == []
    found = tapetum.ui(str(runs), port=0, open=True)
    assert shown == [found["url"]] and found["runs"] == 1
