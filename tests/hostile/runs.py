"""Settings, runs and results from strangers, and names that want to act where they are shown."""

import json
import os
from pathlib import Path

from hostile.made import ESC, TAG, TURNED, Case, photos, state, written
from tapetum.base.files import short_id
from tapetum.train.checkpoint import FILES, FORMAT

CODE = "!!python/object/apply:os.system ['touch canary']"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"
    for a, b in zip("abcdefgh", "bcdefghi")
)
MAPS = "a: &a {k: 1}\n" + "".join(
    f"{b}: &{b} {{{', '.join(f'k{i}: *{a}' for i in range(9))}}}\n" for a, b in zip("abcdefgh", "bcdefghi")
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join(9 * ['*' + a])}]}}\n" for a, b in zip("abcdefgh", "bcdefghi")
)
YAML = {
    "a call": (f"method: {CODE}\n", "not readable YAML"),
    "a call of another kind": (
        "method: !!python/object/new:os.system ['touch canary']\n",
        "not readable YAML",
    ),
    "a name of Python's": ("method: !!python/name:os.system\n", "not readable YAML"),
    "a module of Python's": ("method: !!python/module:os\n", "not readable YAML"),
    "an object of Python's": ("!!python/object:tapetum.cli.Parser {}\n", "not readable YAML"),
    "a tag of its own": ("!<tag:evil> {a: 1}\n", "not readable YAML"),
    "lists that unfold to gigabytes": (LAUGHS, "unfolds to more than"),
    "maps that unfold to gigabytes": (MAPS, "unfolds to more than"),
    "merges that unfold to gigabytes": (MERGES, "unfolds to more than"),
    "a list that holds itself": ("a: &a [*a]\n", "unfolds to more than"),
    "a map that holds itself": ("&a {b: *a}\n", "unfolds to more than"),
    "lists nested without end": ("[" * 50_000, "not readable YAML"),
    "maps nested without end": ("{a: " * 50_000, "not readable YAML"),
    "lists forty deep": ("a: " + "[" * 60 + "]" * 60, "nested more than"),
    "lines nested without end": ("\n".join(" " * i + "a:" for i in range(600)), "it.yaml"),
    "a key twice": ("seed: 1\nseed: 2\n", "stands twice"),
    "a key that is a list": ("? [1, 2]\n: 3\n", "a key is one word"),
    "a key that is a map": ("{{a: 1}: 2}\n", "a key is one word"),
    "a number of 10,000 digits": ("seed: " + "9" * 10_000 + "\n", "not readable YAML"),
    "a number that is none": ("seed: !!int ''\n", "not readable YAML"),
    "another number that is none": ("seed: !!float x\n", "not readable YAML"),
    "yes or no that is neither": ("seed: !!bool x\n", "not readable YAML"),
    "a month that is none": ("seed: 2001-13-99\n", "not readable YAML"),
    "a time that is none": ("seed: !!timestamp x\n", "not readable YAML"),
    "bytes that are none": ("seed: !!binary \u00e9\n", "not readable YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "not readable YAML"),
    "a megabyte": ("# " + "x" * 2**20, "longer than"),
    "another coding": ("method: \xff".encode("latin-1"), "not readable YAML"),
    "zeros": (b"\0" * 100, "not readable YAML"),
    "commands to a terminal": (f"method: '{ESC}'\n".encode(), "not readable YAML"),
    "a list": ("- a\n", "must hold settings"),
    "an alias of nothing": ("a: *b\n", "not readable YAML"),
    "a directive of YAML 9": ("%YAML 9.9\n---\na: 1\n", "not readable YAML"),
}
RUN = {
    "data": "photos",
    "fingerprint": "0" * 32,
    "method": {"name": "simclr"},
    "encoder": {"name": "resnet10_w32"},
    "weights": "none",
    "image_size": 32,
    "epochs": 1,
    "steps": 1,
    "batch_size": 4,
    "seed": 0,
}
LINE = {"step": 1, "loss": 1.0}


def run(place: Path, lines: str | None = None, **more: object) -> Path:
    """A run as a stranger sends it."""
    place.mkdir(parents=True)
    (place / "config.yaml").write_text(json.dumps({**RUN, **more}))
    (place / "metrics.jsonl").write_text(json.dumps(LINE) + "\n" if lines is None else lines)
    return place


def _run(lines: str | None = None, **more: object):
    def make(folder: Path) -> str:
        photos(folder / "photos")
        run(folder / "it", lines, **more)
        return "it"

    return make


def _file(name: str, content: str):
    def make(folder: Path) -> str:
        _run()(folder)
        (folder / "it" / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / "it" / name).write_text(content)
        return "it"

    return make


def _own_method(folder: Path) -> str:
    _run(method="evil.py")(folder)
    (folder / "it/method.py").write_text("x = 1\n")
    return "it"


def _linked(name: str, target: str):
    """A run in which one thing is a link to the user's own, or to a device."""

    def make(folder: Path) -> str:
        _run()(folder)
        (folder / "home").mkdir()
        (folder / "home/precious").write_text("mine\n")
        (folder / "home/step_00000001").mkdir()
        place = folder / "it" / name
        place.unlink(missing_ok=True)
        place.symlink_to(target)
        return "it"

    return make


def _checkpoint(files: object, **more: object):
    """The folder of checkpoints of a run."""

    def make(folder: Path) -> str:
        place = folder / "it/step_00000001"
        place.mkdir(parents=True)
        state(place, "method.safetensors")
        state(place, "optimizer.safetensors")
        facts = {"format": FORMAT, "step": 1, "files": files, "optimizer": {}, "groups": [], **more}
        (place / "state.json").write_text(json.dumps({**facts, "digest": short_id(facts)}))
        return "it"

    return make


def _device(folder: Path) -> str:
    _checkpoint({"method.safetensors": "0" * 64})(folder)
    (folder / "it/step_00000001/method.safetensors").unlink()
    (folder / "it/step_00000001/method.safetensors").symlink_to("/dev/zero")
    return "it"


def _piped(folder: Path) -> str:
    """A run whose settings are a pipe, of which the end never comes."""
    _run()(folder)
    (folder / "it/config.yaml").unlink()
    os.mkfifo(folder / "it/config.yaml")
    return "it"


def _results(folder: Path) -> str:
    """Results beside which the folder of answers is a link."""
    (folder / "home").mkdir()
    (folder / "results").symlink_to("home")
    return "results.json"


def _classifier(facts: object):
    def make(folder: Path) -> str:
        place = folder / "it"
        place.mkdir()
        (place / "classifier.json").write_text(json.dumps(facts))
        return "it"

    return make


NAMES = {
    "commands to a terminal": ESC,
    "a title for its window": "\x1b]0;owned\x07",
    "a link for a terminal": "\x1b]8;;file:///etc/passwd\x1b\\x\x1b]8;;\x1b\\",
    "commands of eight bits": "\x9b2J\x9dx\x9c",
    "a line that writes over another": "good\rbad",
    "letters taken back": "a\b\b\b\x7f",
    "two lines": "a\nerror: all is well",
    "a bell": "\x07" * 9,
    "a page": "\x0c\x0b",
    "writing turned round": TURNED,
    "writing turned round in part": "a\u2067b\u2069",
    "no width": "a\u200e\u200f\ufeff\u061cb",
    "line ends of Unicode": "a\u2028b\u2029c",
    "half a letter": b"a\xff\xfe\xc3",
    "markup of tables": "[bold red]x[/bold red]",
    "markup that closes nothing": "[/]",
    "markup with a link": "[link=file:///etc/passwd]x[/link]",
    "markup with a command": "[@click=app.quit]x",
    "a picture by name": ":skull: :warning:",
    "a tag": TAG,
    "a script": "</script><script>alert(1)</script>",
    "the end of a title": "</title><script>alert(1)</script>",
    "the end of an attribute": '" onmouseover="alert(1)" x=\'',
    "the end of a comment": "--><svg onload=alert(1)>",
    "the end of a style": "</style><style>*{display:none}",
    "a template": "{{7*7}}${7*7}<%= 7*7 %>",
    "an address that is code": "javascript:alert(1)",
    "characters of HTML": "&lt;script&gt;alert(1)&lt;/script&gt;",
    "a zero": "a\0b",
    "a formula": "=cmd|' /C calc'!A0",
}

CASES = [
    *(Case(f"yaml: {n}", "config", written("it.yaml", c), says) for n, (c, says) in YAML.items()),
    *(Case(f"terminal: {n}", "shown", written("it", c), "") for n, c in NAMES.items()),
    *(Case(f"page: {n}", "page", written("it", c), "escaped") for n, c in NAMES.items()),
    Case("suite: a call", "suite", written("it.yaml", f"protocols: [{CODE}]\n"), "not readable YAML"),
    Case(
        "suite: lists that unfold to gigabytes", "suite", written("it.yaml", LAUGHS), "unfolds to more than"
    ),
    Case(
        "suite: a protocol that is a module",
        "suite",
        written("it.yaml", "protocols: [os.system]\n"),
        "unknown protocol",
    ),
    Case(
        "suite: a protocol that goes up",
        "suite",
        written("it.yaml", "protocols: ['../cli']\n"),
        "unknown protocol",
    ),
    Case(
        "suite: a key that is none",
        "suite",
        written("it.yaml", "protocols: [knn]\nrun: touch canary\n"),
        "unknown key",
    ),
    Case(
        "settings: a method's file",
        "with_settings",
        written("it.yaml", "method: ./evil.py\n"),
        "code is only ever typed",
    ),
    Case(
        "settings: an encoder's checkpoint",
        "with_settings",
        written("it.yaml", "encoder: {name: resnet18, checkpoint_path: evil.pth}\n"),
        "no argument 'checkpoint_path'",
    ),
    Case(
        "settings: a name that is none",
        "with_settings",
        written("it.yaml", "import: os\n"),
        "unknown setting",
    ),
    Case(
        "settings: a logger that is a module",
        "with_settings",
        written("it.yaml", "logger: [os.system]\n"),
        "unknown logger",
    ),
    Case("run: a logger that sends numbers", "resume", _run(logger=["wandb"]), "unknown setting"),
    Case("run: a place to write to", "resume", _run(out="home"), "unknown setting"),
    Case("run: a name that is none", "resume", _run(**{"__class__": "x"}), "unknown setting"),
    Case("run: a group that is none", "resume", _run(os={"system": "touch canary"}), "unknown setting"),
    Case("run: a method's file", "resume", _own_method, "began with a method of somebody's own"),
    Case("run: a method that is a module", "resume", _run(method="os"), "unknown method"),
    Case(
        "run: an encoder's checkpoint",
        "resume",
        _run(encoder={"name": "resnet10_w32", "checkpoint_path": "evil.pth"}),
        "no argument 'checkpoint_path'",
    ),
    Case(
        "run: an encoder's address",
        "resume",
        _run(encoder={"name": "resnet10_w32", "pretrained_cfg": {"url": "http://127.0.0.1:9/x"}}),
        "it",
    ),
    Case("run: weights that are a device", "resume", _run(weights="/dev/zero"), "is not an encoder"),
    Case("run: weights by an import", "resume", _run(weights="package:os.path"), "no installed package"),
    Case("run: data that is a device", "resume", _run(data="/dev/zero"), "cannot be opened"),
    Case("run: data that is a secret", "resume", _run(data="/etc/passwd"), "cannot be opened"),
    Case(
        "run: data behind an address", "resume", _run(data="http://127.0.0.1:9/x.zip"), "only what you type"
    ),
    Case(
        "run: data behind an address that is kept",
        "resume",
        _run(data="filecache::http://127.0.0.1:9/x.zip"),
        "only what you type",
    ),
    Case(
        "run: test data behind an address",
        "resume",
        _run(test_data="HTTP://127.0.0.1:9/x.zip"),
        "only what you type",
    ),
    Case("run: labels behind an address", "resume", _run(labels="s3://bucket/x.csv"), "only what you type"),
    Case("run: steps beyond all numbers", "resume", _run(steps=10**400), "it"),
    Case("run: settings that are a list", "resume", _file("config.yaml", "- a\n"), "must hold settings"),
    Case("run: settings that are a pipe", "resume", _piped, "no regular file"),
    Case("run: settings that call", "resume", _file("config.yaml", f"data: {CODE}\n"), "not readable YAML"),
    *(
        Case(
            f"run: {name} links to what is precious", "resume", _linked(name, "../home/precious"), "leads out"
        )
        for name in ("metrics.jsonl", "skipped.jsonl", "environment.json", "health.jsonl", "method.py")
    ),
    *(
        Case(f"run: {name} links to another folder", "resume", _linked(name, "../home"), "leads out")
        for name in ("checkpoints", "tensorboard")
    ),
    Case("run: a link that is absolute", "resume", _linked("metrics.jsonl", "/dev/null"), "leads out"),
    Case("run: what began before links out", "auto", _linked("method.py", "../home/precious"), "leads out"),
    Case("run: looked at, its links are named", "look_at", _linked("checkpoints", "../home"), "leads out"),
    Case("run: told of, its numbers are a device", "story", _linked("metrics.jsonl", "/dev/zero"), "0 rows"),
    Case(
        "run: told of, its numbers are elsewhere",
        "story",
        _linked("metrics.jsonl", "../home/precious"),
        "0 rows",
    ),
    Case(
        "run: told of, its results are elsewhere",
        "story",
        _linked("results.json", "../home/precious"),
        "leads out",
    ),
    Case(
        "run: told of, its settings are elsewhere",
        "story",
        _linked("config.yaml", "../home/precious"),
        "leads out",
    ),
    Case("run: a line of 10 MB", "story", _run("x" * 10**7 + "\n" + json.dumps(LINE) + "\n"), "1 rows"),
    Case(
        "run: a line nested without end",
        "story",
        _run("[" * 10**5 + "\n" + json.dumps(LINE) + "\n"),
        "1 rows",
    ),
    Case("run: a million empty lines", "story", _run("\n" * 10**6), "0 rows"),
    Case(
        "run: lines that are no rows",
        "story",
        _run('3\n"x"\n[]\nnull\n{"step": "x"}\n{"step": true}\n'),
        "0 rows",
    ),
    Case(
        "run: told of, steps beyond all numbers",
        "story",
        _run('{"step": 1e400, "loss": NaN}\n{"step": ' + "9" * 400 + "}\n"),
        "0 rows",
    ),
    Case(
        "run: a health that commands a terminal",
        "look_at",
        _file("health.jsonl", json.dumps({"verdict": ESC, "why": "[/]"}) + "\n"),
        "x1b",
    ),
    Case("run: a health that is no facts", "look_at", _file("health.jsonl", "[1]\n"), "it"),
    Case("run: settings that command a terminal", "look_at", _run(seed="[bold]" + "\x1b"), "x1b"),
    Case("run: results that are a list", "look_at", _file("results.json", "[]"), "holds no results"),
    Case(
        "run: results of results",
        "look_at",
        _file("results.json", '{"format": 2, "results": [[]]}'),
        "is not a result",
    ),
    Case("checkpoint: a file that goes up", "newest", _checkpoint({"../../precious": "0" * 64}), "is whole"),
    Case("checkpoint: a file that is a device", "newest", _checkpoint({"/dev/zero": "0" * 64}), "is whole"),
    Case("checkpoint: weights that are a device", "newest", _device, "is whole"),
    Case("checkpoint: files that are a list", "newest", _checkpoint(["a"]), "is whole"),
    Case(
        "checkpoint: a file that is another",
        "newest",
        _checkpoint(dict.fromkeys(FILES, "0" * 64)),
        "is whole",
    ),
    Case("checkpoint: of another format", "newest", _checkpoint({}, format="!!python"), "is whole"),
    Case("checkpoint: files that are a number", "newest", _checkpoint(3), "is whole"),
    Case("lines: of a device", "rows", lambda folder: "/dev/zero", "no regular file"),
    Case("facts: of a device", "facts", lambda folder: "/dev/zero", "no regular file"),
    Case("facts: nested without end", "facts", written("it.json", "[" * 10**5), "not readable JSON"),
    Case("facts: a number of 10,000 digits", "facts", written("it.json", "9" * 10_000), "not readable JSON"),
    Case("facts: another coding", "facts", written("it.json", "{}".encode("utf-16")), "not readable JSON"),
    Case("results: the folder of answers is a link", "add_result", _results, "is a link"),
    Case(
        "results: facts that were changed",
        "results",
        written("it.json", '{"format": 2, "results": [{"name": "x"}]}'),
        "is not a result",
    ),
    Case(
        "classifier: files that go up",
        "classifier",
        _classifier({"format": 1, "files": {"../x": ""}}),
        "damaged",
    ),
    Case("classifier: facts that are a list", "classifier", _classifier([]), "no classifier"),
    Case("method: a file that is no Python", "look_at", written("it.py", "def f(:\n"), "not readable Python"),
    Case("method: a file that runs", "look_at", written("it.py", "open('canary', 'w')\n"), "method"),
    Case("method: brackets without end", "look_at", written("it.py", "(" * 10**5), "it.py"),
    Case("method: a sum without end", "look_at", written("it.py", "x = " + "-" * 10**5 + "1"), "it.py"),
]
