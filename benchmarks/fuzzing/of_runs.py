"""The parsers of runs: encoders, checkpoints, results, logs, YAML, what people type, what browsers ask."""

import io
import json
import math
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.fuzzing import seeds_of_runs as seeds
from benchmarks.fuzzing.judge import Target, Wrong, sentence
from benchmarks.fuzzing.of_data import fresh
from tapetum import cli, views
from tapetum.adapt.classifier import facts_of
from tapetum.base import settings
from tapetum.base.errors import TapetumError
from tapetum.base.files import short_id
from tapetum.encoders import load, weights
from tapetum.evaluate import landmarks, suites
from tapetum.evaluate.answers import Answers
from tapetum.evaluate.result import read_results
from tapetum.features import cache
from tapetum.features.shelf import Shelf, facts
from tapetum.inspecting import inspect
from tapetum.parts.schedule import PositiveRamp, Ramp, ShareRamp
from tapetum.report import story
from tapetum.report.dashboard import front
from tapetum.report.parts import files_section, result_parts
from tapetum.report.server import Handler, Server
from tapetum.report.story import plain_settings
from tapetum.report.training import training
from tapetum.report.watched import Dashboard
from tapetum.train import checkpoint, config, contents
from tapetum.views.nest import configured


def folder_of(files: dict[str, bytes], folder: Path) -> Path:
    """A folder with these files, written anew."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        fresh(folder / name, content)
    return folder


def choice(data: bytes, names: list[str]) -> tuple[str, bytes]:
    """The first byte chooses which file the rest is."""
    return names[data[0] % len(names) if data else 0], data[1:]


def chosen(files: dict[str, bytes]) -> list[bytes]:
    return [bytes([i]) + content for i, content in enumerate(files.values())]


def state(data: bytes, folder: Path) -> None:
    weights.read(fresh(folder / "x.safetensors", data))


def state_dict(data: bytes, folder: Path) -> None:
    found = weights.read(fresh(folder / "x.pt", data))
    if not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise Wrong("a state dict that holds more than tensors")


def encoder(data: bytes, folder: Path) -> None:
    """An encoder's folder, of which the first byte chooses a file."""
    name, content = choice(data, list(seeds.encoder_files()))
    load(str(folder_of(seeds.encoder_files() | {name: content}, folder / "encoder")))


def saved_state(data: bytes, folder: Path) -> None:
    """A checkpoint, of which the first byte chooses a file."""
    name, content = choice(data, list(seeds.checkpoint_files()))
    files = seeds.checkpoint_files() | {name: content}
    place = folder_of({f"step_00000001/{n}": c for n, c in files.items()}, folder / "checkpoints")
    found = checkpoint.newest(place)
    if found:
        net = seeds.small()
        contents.restore(*found, net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9))


def mended_state(data: bytes) -> bytes:
    """A checkpoint's facts with the digests of its files."""
    name, content = choice(data, list(seeds.checkpoint_files()))
    whole = json.loads(seeds.checkpoint_files()["state.json"])
    try:
        facts = json.loads(content)
        facts |= {name: whole[name] for name in ("files", "format")}
        facts |= (
            {"digest": short_id({n: v for n, v in facts.items() if n != "digest"})}
            if "digest" in whole
            else {}
        )
    except (ValueError, TypeError, RecursionError):
        return data
    return data[:1] + json.dumps(facts).encode() if name == "state.json" else data


def run(data: bytes, folder: Path) -> None:
    """A run's folder as the dashboard, a report and `inspect` read it; the first byte chooses a file."""
    name, content = choice(data, list(seeds.run_files()))
    place = folder_of(seeds.run_files() | {name: content}, folder / "runs" / "first")
    board = Dashboard([str(place.parent)])
    json.dumps(board.changes(0), allow_nan=False)
    [json.dumps(board.rows({run: ""}), allow_nan=False) for run in board.runs]
    try:
        told = story.read(place)
        for says in (story.trained, story.stands, story.onwards, story.compared):
            says(told)
        story.healthy(told)
        training(told)
        files_section(told.skipped, "left out", "skipped", "none")
        result_parts([r for r in told.results if math.isfinite(r.value)], told.name)
        plain_settings(told.settings)
    finally:
        inspect(str(place))


def results(data: bytes, folder: Path) -> None:
    for result in read_results(fresh(folder / "results.json", data)):
        f"{result.row}: {result.title} {result}"  # as people are told


def mended_results(data: bytes) -> bytes:
    """Results with ids that fit their facts."""
    try:
        tree = json.loads(data)
        for row in tree["results"]:
            row["protocol_id"], row["subject_id"] = short_id(row["protocol"]), short_id(row["subject"])
        return json.dumps(tree).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        return data


def mended_classifier(data: bytes) -> bytes:
    try:
        facts = {name: value for name, value in json.loads(data).items() if name != "digest"}
        return json.dumps(facts | {"digest": short_id(facts)}).encode()
    except (ValueError, AttributeError, RecursionError):
        return data


def classifier(data: bytes, folder: Path) -> None:
    facts_of(folder_of({"classifier.json": data}, folder / "classifier"))


def yaml(data: bytes, folder: Path) -> None:
    """Settings, a recipe, and a suite of protocols."""
    file = fresh(folder / "x.yaml", data)
    for read in (
        lambda: config.split(config.read(file)),
        lambda: cli.from_file(str(file), cli.VERBS["pretrain"]),
        lambda: suites.read([str(file)]),
    ):
        try:
            read()
        except TapetumError as error:
            sentence(error)


KINDS: tuple[Any, ...] = (
    *(Ramp, ShareRamp, PositiveRamp, settings.Count, settings.Share, int, float, bool, str, int | None),
    *(
        tuple[float, float],
        tuple[str, ...],
        list[int],
        Literal["fp32", "bf16"],
        float | tuple[float, float],
        dict,
    ),
)
VIEWS = {"large": [views.simclr()], "small": [views.simclr()]}


def typed(data: bytes, folder: Path) -> None:
    """Text from the command line as settings of every kind, as views, as sizes, and as a whole command."""
    text = data.decode(errors="surrogateescape")
    name, _, value = text.partition("=")
    reads = [lambda kind=kind: settings.parse("setting", text, kind) for kind in KINDS]
    reads += [
        lambda: configured(VIEWS, {name: settings.guess(value)}),
        lambda: cache.parsed(text, "--limit"),
        lambda: cli.read(["pretrain", *text.split("\0")]),
    ]
    for read in reads:
        try:
            read()
        except TapetumError as error:
            sentence(error)
        except SystemExit as stop:  # --help, and argparse's own sentences
            if stop.code not in (0, 2):
                raise Wrong(f"left with the code {stop.code}") from stop


class Wire:
    """A connection: what a browser sends, and what it gets."""

    def __init__(self, data: bytes):
        self.data, self.said = io.BytesIO(data), bytearray()

    def makefile(self, *_: Any) -> io.BytesIO:
        return self.data

    def sendall(self, content: bytes) -> None:
        self.said += content

    def settimeout(self, seconds: float) -> None:
        """Nothing blocks here."""


class Pages:
    def page(self, run: Any) -> tuple[bytes, dict[str, str]]:
        return b"a page", {}

    def close(self) -> None:
        """There are no processes."""


SERVED: dict[Path, Server] = {}


def serve(folder: Path) -> None:
    """One dashboard of one run, which listens to nobody."""
    folder_of(seeds.run_files(), folder / "runs" / "hidden")
    server = Server(Dashboard([str(folder / "runs")]), front().html(), 0, seeds.TOKEN, folder)
    server.reports = Pages()  # type: ignore[assignment]
    server.dashboard.changes(0)
    SERVED[folder] = server


def request(data: bytes, folder: Path) -> None:
    """Bytes as a browser, or anybody, may send them."""
    server = SERVED[folder]
    port, [run] = str(server.server_address[1]).encode(), server.dashboard.runs
    wire = Wire(data.replace(b"PORT", port).replace(b"RUN", run.encode()))
    Handler(wire, ("127.0.0.1", 1), server)  # type: ignore[arg-type]
    if wire.said and not wire.said.startswith((b"HTTP/1.", b"<!DOCTYPE", b"This server answers only")):
        raise Wrong(f"an answer that begins with {bytes(wire.said[:40])!r}")
    if seeds.TOKEN.encode() not in data and (b"hidden" in wire.said or b"a page" in wire.said):
        raise Wrong("an answer without the token")


def shelf(data: bytes, folder: Path) -> None:
    """A kind of stored features, of which the first byte chooses a file."""
    name, content = choice(data, list(SHELF))
    place = folder_of(SHELF | {name: content}, folder / "features" / "kind")
    Shelf(place, {}).read()
    if (about := facts(place)) is not None:
        cache.name(cache.Entry(place, about, 1, 0.0))


SHELF = {
    "about.json": b'{"subject": {"encoder": {"model": "a"}, "weights": "abc", "layer": 3}, "view": {"c": 1}}',
    "1.npy": seeds.seeds.arrays(lambda out: seeds.np.save(out, seeds.np.zeros((2, 4), seeds.np.float32))),
    "1.keys": b"k" * 32,
}


def told(data: bytes, folder: Path) -> None:
    """Any bytes under any name, to `inspect`; the first byte chooses the name."""
    name, content = choice(data, list(seeds.inspected()))
    place = folder_of(
        {name: content, "model.safetensors": b"", "method.safetensors": b""}, folder / f"told-{name}"
    )
    inspect(str(place if "." in name and not name.startswith("x") else place / name))


TARGETS = {
    "safetensors": Target(state, seeds.safetensors),
    "state_dict": Target(state_dict, seeds.state_dicts),
    "encoder": Target(encoder, lambda: chosen(seeds.encoder_files())),
    "checkpoint": Target(saved_state, lambda: chosen(seeds.checkpoint_files()), mend=mended_state),
    "run": Target(run, lambda: chosen(seeds.run_files())),
    "results": Target(results, lambda: [seeds.result_files()["results.json"]], mend=mended_results),
    "answers": Target(lambda data, folder: Answers.load(fresh(folder / "x.npz", data)), seeds.answers),
    "classifier": Target(classifier, lambda: [seeds.classifier()], mend=mended_classifier),
    "yaml": Target(yaml, seeds.yamls),
    "settings": Target(typed, seeds.settings),
    "request": Target(request, seeds.requests, serve),
    "shelf": Target(shelf, lambda: chosen(SHELF)),
    "landmarks": Target(
        lambda data, folder: landmarks.read(str(fresh(folder / "x.json", data))), seeds.landmarks
    ),
    "inspect": Target(
        told, lambda: [bytes([i]) + c for i, some in enumerate(seeds.inspected().values()) for c in some]
    ),
}
