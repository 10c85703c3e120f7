"""Commands that people are told to copy mean in a shell what they say, whatever a folder is called."""

import html
import re
import shlex
from types import SimpleNamespace

import pytest

from tapetum.base.errors import TapetumError
from tapetum.encoders import weights
from tapetum.report import of_run
from tapetum.report.story import Story, onwards
from tapetum.report.watched import Dashboard
from tapetum.train import pretrain, resume, run
from tapetum.train.health.watch import Watch

BROKEN = {"step": 1, "verdict": "diverging", "broken": "the loss is nan"}


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "my runs; $(date)"
    found.mkdir()
    return found


@pytest.fixture
def again(folder) -> str:
    return f"--resume {shlex.quote(str(folder))}"


def test_of_pages(folder, again):
    assert onwards(Story(folder, {}, health=[BROKEN])).endswith(f"tapetum pretrain {again}")
    section = of_run._results(Story(folder, {"data": "my photos"}))
    command = f"tapetum evaluate {shlex.quote(str(folder))} --train-data 'my photos'"
    assert command in html.unescape("".join(section.parts))
    [note] = Dashboard([str(folder)]).changes(0)["notes"]
    assert note.endswith(f"--out {shlex.quote(f'{folder}/first')}")


def test_of_sentences_on_what_is_wrong(folder, again):
    (folder / "config.yaml").touch()
    with pytest.raises(TapetumError, match=re.escape(f"tapetum pretrain {again}")):
        weights.find(folder)
    with pytest.raises(TapetumError, match=re.escape(f"go on with {again}, or")):
        resume.where(None, folder, False)
    copy = shlex.quote(str(folder / "method.py"))
    with pytest.raises(TapetumError, match=re.escape(f"add --method {copy}.")):
        resume._typed_again(None, folder, None)


def test_of_a_training_that_stops(folder, again, capsys):
    sick = SimpleNamespace(history=[BROKEN], path=folder / "health.jsonl")
    assert f"{again} goes on." in str(Watch.ended(sick))
    with pytest.raises(SystemExit):
        done = SimpleNamespace(folder=folder, main=True, options={"plugin": "mine.py"}, flush=print)
        run.Run._stopped(done, 15)
    copy = shlex.quote(str(folder / "method.py"))
    assert f"Go on with: tapetum pretrain {again} --method {copy}\n" in capsys.readouterr().out


def test_of_a_training_that_is_done(folder, monkeypatch, capsys):
    class Done:
        def __init__(self, *_):
            self.create, self.train, self.finish = print, print, lambda: {"seconds": 1.0}

    job = SimpleNamespace(config={"data": "my photos"}, choices={})
    monkeypatch.setattr(pretrain.setup, "prepare", lambda *_: job)
    monkeypatch.setattr(pretrain, "Run", Done)
    pretrain.body({"method": "simclr"}, {}, folder, resume=False)
    command = f"tapetum evaluate {shlex.quote(str(folder))} --train-data 'my photos'"
    assert f"measure it with: {command}\n" in capsys.readouterr().out
