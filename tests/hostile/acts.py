"""What is done with hostile things: the verbs' own functions, each giving in words what came of it."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from tapetum.base import console, files, plain_yaml
from tapetum.base.errors import LONGEST, TapetumError
from tapetum.base.harmless import harmless
from tapetum.data import open_data
from tapetum.data.decode import Damaged, decode, header_size
from tapetum.data.masks import Masks


def look(place: str) -> str:
    """Open images, read each and name their contents."""
    source = open_data(place)
    said = [f"{len(source)} images"]
    said += [f"{row['path']} is {row['reason']}" for row in source.skipped[:40]]
    for i in range(min(len(source), 60)):
        try:
            source.size(i)
            said.append(f"{source.paths[i]} is read as {list(source.read(i).shape)}")
        except Damaged as error:
            said.append(f"{source.paths[i]} is damaged: {error}")
    return "; ".join([*said, source.summary(), source.fingerprint()[:4], *(source.classes or [])])


def image(place: str) -> str:
    """Decode one image; of its header first, as listings do."""
    for read in (header_size, decode):
        with contextlib.suppress(Damaged):
            read(Path(place).read_bytes())
    return f"read as {list(decode(Path(place).read_bytes()).shape)}"


def inspect(place: str) -> str:
    import tapetum

    return json.dumps(tapetum.inspect(place), default=str, ensure_ascii=False)


def weights(place: str) -> str:
    from tapetum.encoders.weights import read

    return f"weights {sorted(read(place))}"


def load(place: str) -> str:
    import tapetum

    return f"encoder of {tapetum.load(place).dim}"


def typed(command: str):
    """A command as it is typed; the name of the hostile thing stands for IT."""

    def act(place: str) -> str:
        from tapetum import cli

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main([place if word == "IT" else word for word in command.split()])
        shown = out.getvalue() + err.getvalue()
        assert harmless(shown, keep="\n\t\r") == shown, (
            f"it printed what acts on a terminal: {shown[-200:]!r}"
        )
        assert code in (0, 1, 2) and "Traceback" not in shown, shown[-2000:]
        if code == 2:
            *_, sentence = err.getvalue().strip().splitlines()
            assert len(sentence) <= len("error: ") + LONGEST, f"a sentence of {len(sentence)} letters"
            raise TapetumError(sentence)
        return shown

    return act


def shown(place: str) -> str:
    """Print a stranger's names in every way that names are printed."""
    text = Path(place).read_bytes().decode(errors="surrogateescape")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        console.say(text)
        console.warn(text)
        console.fail(text)
        console.table([(text, 1)], (text, "n"), text)
        with console.Progress(2, text, every=0) as progress:
            progress.advance(1, name=text)
    found = out.getvalue() + err.getvalue()
    assert harmless(found, keep="\n\t") == found, f"it printed what acts on a terminal: {found[-200:]!r}"
    return found.replace("\n", " ")


def page(place: str) -> str:
    """A page of a stranger's names, as a browser reads it."""
    from small_pages import Read
    from tapetum.report.page import Page, Section, bullets, facts, paragraph, table, tag

    name = Path(place).read_bytes().decode(errors="surrogateescape")
    parts = [paragraph(name), bullets([name]), facts([(name, name)]), table([name], [[name]], name)]
    parts += [tag("a", name, title=name, href="#x"), tag("img", alt=name, src="data:image/png;base64,")]
    made = Page(
        name,
        [name],
        [Section(name, "names", parts)],
        {"data": {name.encode(errors="replace").decode(): [name.encode(errors="replace").decode()]}},
    )
    file = Path(place).with_name("out") / "page.html"
    file.parent.mkdir(exist_ok=True)
    file.write_text(made.html())
    read = Read(file)
    tags = [tag for tag, _ in read.elements]
    wanted = {
        *("html", "link"),
        "link",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "a",
        "header",
        "h1",
        "p",
        "nav",
        "main",
        "section",
    }
    wanted |= {
        "h2",
        "ul",
        "li",
        "dl",
        "div",
        "dt",
        "dd",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "img",
        "footer",
        "script",
    }
    assert set(tags) <= wanted and tags.count("script") == 2 and tags.count("img") == 1, tags
    assert read.handlers() == [] and read.outside() == []
    return "escaped"


def masks(place: str) -> str:
    found = Masks(place)
    return f"mask of {found.read('a.png', (8, 8)).max()}"


def labels(place: str) -> str:
    source = open_data("photos", labels=place)
    return f"{source.classes} {source.notes}"


def config(place: str) -> str:
    from tapetum.train import config

    return f"{config.read(Path(place))}"[:300]


def suite(place: str) -> str:
    from tapetum.evaluate import suites

    return f"{suites.read([place])}"[:300]


def yaml(place: str) -> str:
    return f"{plain_yaml.read(Path(place))}"[:300]


def newest(place: str) -> str:
    from tapetum.train import checkpoint

    return str(checkpoint.newest(Path(place)))


def rows(place: str) -> str:
    return f"{len(files.read_lines(place))} rows"


def facts(place: str) -> str:
    return f"facts {files.read_json(place)}"[:200]


def story(place: str) -> str:
    """A run as reports and the dashboard tell of it."""
    from tapetum.report.story import healthy, read, stands, trained

    told = read(Path(place))
    return " ".join([trained(told), stands(told), healthy(told)[0], f"{len(told.rows)} rows", *told.notes])


def answers(place: str) -> str:
    from tapetum.evaluate.answers import Answers

    return str(Answers.load(Path(place)).values())


def results(place: str) -> str:
    from tapetum.evaluate.result import read_results

    return str(read_results(place))


def classifier(place: str) -> str:
    from tapetum.adapt.classifier import Classifier

    return str(Classifier.load(place))


def add_result(place: str) -> str:
    """A result that is written beside others of a stranger."""
    from small_results import result, said
    from tapetum.evaluate.result import add_results

    add_results(place, [result(said(0.5, 0), "x")])
    return "written"


resume = typed("pretrain --resume IT")
auto = typed("pretrain photos --out IT --resume auto --steps 1")
look_at = typed("inspect IT")
describe = typed("methods IT")
preview = typed("preview IT --out out/x.png")
pack = typed("pack IT --out out/x.pack --size 8")
with_settings = typed("pretrain photos --out out/new --steps 1 --batch-size 2 --config IT")


ACTS: dict[str, Any] = {
    name: value for name, value in globals().items() if callable(value) and not name[0].isupper()
}


def do(act: str, place: str) -> tuple[str, str]:
    """(kind, words): "value" and what came, or "sentence" and what was said."""
    try:
        return "value", ACTS[act](place)
    except TapetumError as error:
        return "sentence", str(error)
