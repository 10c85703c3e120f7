"""Data behind addresses is the data on the disk; what fails is tried again, counted, told without secrets."""

import functools
import html
import io
import os
import pickle
import re
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import pytest

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")

from tapetum.base.errors import TapetumError  # noqa: E402
from tapetum.base.files import cache_dir  # noqa: E402
from tapetum.data import Damaged, asking, blocks, far, open_data, stores  # noqa: E402
from tapetum.data.canvas import Canvas  # noqa: E402
from tapetum.data.place import place  # noqa: E402
from tapetum.data.shards import shards_of  # noqa: E402
from tapetum.data.webdataset import expand  # noqa: E402


class Server(BaseHTTPRequestHandler):
    """Files of a folder, in ranges, and pages of links; it may fail, refuse, or give whole files only."""

    root: Path
    failing = 0  # so many requests in turn, from now on
    status = 503
    ranges = True
    missing = 404  # status of what is not there
    silent: tuple[str, ...] = ()  # headers that it does not send
    links: list[str] = []  # on the next page, beside those of its files
    given: list[int] = []  # bytes of each answer

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        if Server.failing > 0:
            Server.failing -= 1
            return self.send_error(Server.status)
        path = self.root / unquote(self.path.partition("?")[0]).lstrip("/")
        if path.is_dir():
            names = sorted(item.name + "/" * item.is_dir() for item in path.iterdir())
            links = [f'<a href="{html.escape(quote(name))}">x</a>' for name in names]
            links += [f'<a href="{link}">x</a>' for link in ("?C=N;O=D", "../", *Server.links)]
            if body:
                Server.links = []
            content, kind = "".join(links).encode(), "text/html"
        elif path.is_file():
            content, kind = path.read_bytes(), "application/octet-stream"
        else:
            return self.send_error(Server.missing)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and self.ranges:
            content = content[int(asked[1]) : int(asked[2]) + 1]
        self.send_response(206 if asked and self.ranges else 200)
        about = {"Content-Type": kind, "Content-Length": str(len(content)), "ETag": "one"}
        for name in about.keys() - set(Server.silent):
            self.send_header(name, about[name])
        self.end_headers()
        if body:
            Server.given.append(len(content))
            self.wfile.write(content)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of tmp_path on a server of this machine."""
    monkeypatch.setattr(asking, "PAUSE", 0.001)
    Server.failing, Server.status, Server.ranges, Server.links, Server.given = 0, 503, True, [], []
    Server.missing, Server.silent = 404, ()
    Server.root = tmp_path
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=functools.partial(running.serve_forever, 0.01), daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """memory() puts everything of tmp_path into the store behind memory://, and gives its address."""
    monkeypatch.setattr(asking, "PAUSE", 0.001)
    system = fsspec.filesystem("memory")
    name = f"m{time.monotonic_ns()}"

    def fill() -> str:
        for path in tmp_path.rglob("*"):
            if path.is_file():
                system.pipe_file(f"/{name}/{path.relative_to(tmp_path).as_posix()}", path.read_bytes())
        return f"memory://{name}"

    yield fill
    system.rm(f"/{name}", recursive=True)


@pytest.fixture
def layouts(tmp_path, write, zipped, png):
    """Every layout on the disk; the names of what to open."""
    folders = [f"{s}/{c}" for s in ("train", "test") for c in ("cat", "dog")]
    files = {f"{folder}/{i} ü&.png": png(i) for folder in folders for i in range(2)}
    rest = {".git/a": b"1", ".git/b/c": b"2", "notes.txt": b"x", "train/cat/empty.png": b""}
    write(files | rest)
    zipped(files | rest)
    for number in range(2):
        members = {f"{number}{i}.png": png(10 * number + i) for i in range(3)}
        members |= {f"{number}{i}.cls": b"%d" % i for i in range(3)}
        tarred(tmp_path / f"shard-{number}.tar", members)
    rows = [f"{name},{name.split('/')[1]}" for name in files] + ["lost.png,cat", ",dog", "notes.txt,dog"]
    (tmp_path / "photos" / "list.csv").write_text("path,label\n" + "\n".join(rows))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "arrays.npz", images=pixels, labels=np.arange(5) % 2)
    np.save(tmp_path / "arrays.npy", pixels)
    names = ["photos", "photos/train", "photos/test/cat/1 ü&.png", "photos.zip", "photos.zip/train"]
    names += ["shard-0.tar", "shard-{0..1}.tar", "photos/list.csv", "arrays.npz", "arrays.npy"]
    return names


def tarred(path, members):
    with tarfile.open(path, "w") as out:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))


def known(source):
    """All that is known of a source, its pixels too."""
    labels = None if source.labels is None else source.labels.tolist()
    said = [source.name, source.paths, labels, source.classes, source.split_of, source.summary()]
    return [
        *said,
        source.skipped,
        source.fingerprint(),
        [source.read(i).tolist() for i in range(len(source))],
    ]


def assert_as_near(kind, names, tmp_path, memory, server):
    start = {"memory": memory(), "web": server, "file": f"file://{tmp_path}"}[kind]
    for name in names:
        typed = quote(name, safe="/{}") if kind != "memory" else name
        assert known(open_data(f"{start}/{typed}")) == known(open_data(tmp_path / name)), name


@pytest.mark.parametrize("kind", ["memory", "web", "file"])
def test_every_layout_is_what_it_is_on_the_disk(kind, tmp_path, layouts, memory, server):
    assert_as_near(kind, layouts, tmp_path, memory, server)


@pytest.mark.parametrize("kind", ["memory", "web", "file"])
def test_a_parquet_file_is_what_it_is_on_the_disk(kind, tmp_path, png, memory, server):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    table = pa.table({"image": [png(i) for i in range(4)], "label": ["a", "b", "a", "b"]})
    parquet.write_table(table, tmp_path / "images.parquet", row_group_size=2)
    assert_as_near(kind, ["images.parquet"], tmp_path, memory, server)


def test_globs_splits_and_labels_from_afar(tmp_path, layouts, memory):
    start = memory()
    assert [path.name for path in expand(f"{start}/shard-*.tar")] == ["shard-0.tar", "shard-1.tar"]
    assert len(open_data(f"{start}/shard-*.tar")) == 6
    (tmp_path / "photos" / "labels.csv").write_text("path,label\ntest/cat/0 ü&.png,lynx\n")
    memory()
    roots = start, tmp_path
    there, near = (open_data(f"{root}/photos", f"{root}/photos/labels.csv", "test") for root in roots)
    assert there.classes == near.classes == ["lynx"] and there.fingerprint() == near.fingerprint()


def test_a_source_travels_and_is_held_as_on_the_disk(tmp_path, layouts, memory):
    there, near = open_data(f"{memory()}/photos"), open_data(tmp_path / "photos")
    there = pickle.loads(pickle.dumps(there))
    a, b = Canvas(there, side=8, workers=1), Canvas(near, side=8, workers=1)
    assert (a.pixels == b.pixels).all() and len(a.pixels) == 8


def test_archives_are_read_in_place(tmp_path, server, png):
    """A few images of an archive of 40 MB cost a few blocks, and a folder of it a few more."""
    with zipfile.ZipFile(tmp_path / "large.zip", "w") as out:
        for i in range(20):
            out.writestr(f"rest/{i}.bin", bytes(2**21))
            out.writestr(f"{i}.png", png(i))
    source = open_data(f"{server}/large.zip")
    assert len(source) == 20 and source.read(3).shape == (8, 10, 3)
    assert sum(Server.given) <= 2**22


def test_the_members_of_a_tar_are_listed_once(tmp_path, server, png):
    tarred(tmp_path / "a.tar", {"0.png": png(0), "rest.bin": bytes(2**23), "1.png": png(1)})
    first = open_data(f"{server}/a.tar")
    assert sum(Server.given) < 2**22  # over what is no image it steps
    blocks.HELD.__init__()
    Server.given.clear()
    again = open_data(f"{server}/a.tar")
    assert again.paths == first.paths and again.keys == first.keys and not Server.given


def test_what_is_expected_is_read_once(write, png, memory, monkeypatch):
    """Also where memory has room for the first few only, and two threads take turns."""
    write({f"{i}.png": png(i) for i in range(12)})
    store = (source := open_data(f"{memory()}/photos")).store
    reads, real = [], far.Far.read
    monkeypatch.setattr(far.Far, "read", lambda self, *part: reads.append(self.name) or real(self, *part))
    monkeypatch.setattr(blocks, "MOST", sum(key[1] for key in source.keys[:3]))
    for key in source.keys:
        store.expect(key)
    for one, other in zip(source.keys[:6], source.keys[6:]):
        assert store.content(one) and store.content(other)
    assert sorted(reads) == sorted(source.paths)


def test_what_nobody_comes_for_makes_room(write, png, memory, monkeypatch):
    write({f"{i}.png": png(i) for i in range(6)})
    store = (source := open_data(f"{memory()}/photos")).store
    monkeypatch.setattr(blocks, "MOST", sum(key[1] for key in source.keys[:3]))
    monkeypatch.setattr(blocks, "HELD", held := blocks.Held())
    monkeypatch.setattr(stores, "HELD", held)
    for key in source.keys:
        store.expect(key)
    assert [key[0].name for key in held._expected] == ["0.png", "1.png", "2.png"]
    monkeypatch.setattr(blocks, "GONE", -1)
    for key in source.keys[3:]:
        store.expect(key)
    assert [key[0].name for key in held._expected] == ["5.png"] and held._bytes <= blocks.MOST
    assert source.read(5).shape == (8, 10, 3)


def test_no_process_waits_for_reads_that_hang(monkeypatch):
    monkeypatch.setattr(far.Far, "read", lambda *_: threading.Event().wait())
    blocks.Held().ask(place("memory://hangs/a.zip"), 0, 1)
    reading = [thread for thread in threading.enumerate() if thread.name.startswith("tapetum-far")]
    assert reading and all(thread.daemon for thread in reading)


def test_a_few_failures_are_overcome(tmp_path, layouts, server):
    near = open_data(tmp_path / "photos").fingerprint()
    Server.failing = asking.TRIES - 1
    source = open_data(f"{server}/photos")
    Server.failing = asking.TRIES - 1
    assert source.fingerprint() == near


def test_reads_that_fail_now_and_then(tmp_path, write, png, memory, monkeypatch):
    """Every third read fails, one file always does: that one is skipped like a damaged file, and listed."""
    write({f"{i}.png": png(i) for i in range(9)})
    source = open_data(f"{memory()}/photos")
    count = iter(range(10**6))
    real = type(fsspec.filesystem("memory")).cat_file

    def failing(self, path, *args, **kwargs):
        if "/5.png" in path or next(count) % 3 == 0:
            raise OSError("the line is broken")
        return real(self, path, *args, **kwargs)

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", failing)
    canvas = Canvas(source, side=8, workers=1, max_damaged=0.5)
    assert canvas.skipped == [{"path": "5.png", "reason": "failed 4 times (the line is broken)"}]
    assert source.digests()[5] == b"" and all(source.digests()[:5])


def test_vanished_refused_and_slow(tmp_path, write, png, server, monkeypatch):
    write({f"{i}.png": png(i) for i in range(3)})
    source = open_data(f"{server}/photos")
    (tmp_path / "photos" / "0.png").unlink()
    with pytest.raises(Damaged, match="not there"):
        source.read(0)
    Server.failing, Server.status = 1, 403
    with pytest.raises(Damaged, match="access refused"):
        source.read(1)
    monkeypatch.setattr(asking, "TIMEOUT", 0.05)
    monkeypatch.setattr(Server, "answer", lambda self, body: time.sleep(0.3))
    with pytest.raises(Damaged, match=r"failed 4 times \(no answer in time\)"):
        source.read(2)


def test_a_server_without_ranges_is_said_and_copies_help(tmp_path, zipped, png, server, monkeypatch):
    zipped({f"{i}.png": np.random.default_rng(0).bytes(2**20) for i in range(3)}, packing=zipfile.ZIP_STORED)
    Server.ranges = False
    with pytest.raises(TapetumError, match="gives whole files only; write filecache::"):
        open_data(f"{server}/photos.zip")
    zipped({"a.png": png(0)}, "small.zip")
    monkeypatch.setattr(far, "_PIECE", 100)
    copied = open_data(f"filecache::{server}/small.zip")
    Server.given.clear()
    assert copied.read(0).shape == (8, 10, 3) and isinstance(copied.store.path, str)
    assert len(open_data(f"filecache::{server}/small.zip")) == 1 and not Server.given


def test_a_pattern_of_copies_copies(tmp_path, layouts, memory):
    start = f"filecache::{memory()}"
    for pattern in ("shard-{0..1}.tar", "shard-*.tar"):
        assert all(path.copy for path in expand(f"{start}/{pattern}"))
        source = open_data(f"{start}/{pattern}")
        assert len(source) == 6 and all(isinstance(path, str) for path in source.store.paths)
    assert os.fspath(place(start) / "shard-0.tar") == f"{start}/shard-0.tar"


def test_a_list_that_is_copied_names_what_lies_beside_it(tmp_path, layouts, server):
    table = pytest.importorskip("pyarrow").table({"path": ["train/cat/0 ü&.png"], "label": ["cat"]})
    __import__("pyarrow.parquet").parquet.write_table(table, tmp_path / "photos" / "list.parquet")
    (tmp_path / "photos" / "own.csv").write_text(f"path\n{server}/photos/test/dog/0%20%C3%BC%26.png\n")
    for name in ("list.csv", "list.parquet", "own.csv"):
        plain = open_data(f"{server}/photos/{name}")
        assert known(open_data(f"filecache::{server}/photos/{name}")) == known(plain), name


def test_what_a_server_refuses_may_not_be_there(tmp_path, layouts, server):
    Server.missing = 403
    for name in ("shard-{0..1}.tar", "photos.zip/train"):
        assert known(open_data(f"{server}/{name}")) == known(open_data(tmp_path / name))
    assert shards_of(f"{server}/photos.zip/train") == []
    with pytest.raises(TapetumError, match=r"cannot reach http://[\d.:]+/lost/a.zip: access refused"):
        open_data(f"{server}/lost/a.zip")


def test_files_whose_length_is_not_said(tmp_path, write, zipped, png, server):
    Server.silent = ("Content-Length",)
    write({"a.png": png(0)})
    zipped({"a.png": png(0)}, "small.zip")
    with pytest.raises(TapetumError, match=r"'a\.png', is of unknown length"):
        open_data(f"{server}/photos")
    with pytest.raises(TapetumError, match=r"cannot read http://.*/small\.zip: of unknown length"):
        open_data(f"{server}/small.zip")
    assert open_data(f"filecache::{server}/small.zip").read(0).shape == (8, 10, 3)


def test_a_copy_of_what_may_have_changed_is_made_anew(tmp_path, zipped, png, server):
    Server.silent = ("ETag",)
    for images in (1, 2):
        zipped({f"{i}.png": png(i) for i in range(images)}, "small.zip")
        assert len(open_data(f"filecache::{server}/small.zip")) == images


def test_connecting_is_asking(monkeypatch):
    class AuthenticationException(Exception):
        pass

    class Gate(fsspec.AbstractFileSystem):
        cachable = False
        failures: list[Exception] = []

        def __init__(self, **_):
            super().__init__()
            if Gate.failures:
                raise Gate.failures.pop()

        def info(self, path, **_):
            return {"name": path, "size": 1, "type": "file"}

    monkeypatch.setattr(asking, "PAUSE", 0.001)
    fsspec.register_implementation("gate", Gate, clobber=True)
    Gate.failures = [OSError("the line is broken")] * (asking.TRIES - 1)
    assert place("gate://one/a.zip").is_file()
    Gate.failures = [AuthenticationException("no")] * 2
    with pytest.raises(TapetumError, match=r"cannot reach gate://two/a\.zip: access refused"):
        place("gate://two/a.zip").exists()
    assert len(Gate.failures) == 1
    Gate.failures = [ValueError("name an account")] * asking.TRIES
    with pytest.raises(
        TapetumError, match=r"cannot reach gate://three/a.zip: failed 4 times \(name an account"
    ):
        place("gate://three/a.zip").exists()


def test_no_sentence_holds_a_password(server):
    secret = server.replace("http://", "http://me:hidden@") + "/lost.zip?key=signature"
    with pytest.raises(TapetumError) as error:
        open_data(secret)
    assert "hidden" not in str(error.value) and "signature" not in str(error.value)
    assert "there is no http://127.0.0.1" in str(error.value)
    for text in (str(place(secret)), repr(place(secret)), str(TapetumError(f"no {secret}"))):
        assert "hidden" not in text and "signature" not in text
    assert os.fspath(place(secret)) == secret


def test_a_list_sends_nobody_elsewhere(tmp_path, layouts, memory, server):
    start = memory()
    (tmp_path / "list.csv").write_text(f"path\n{start}/photos/train/cat/0 ü&.png\nmemory://other/a.png\n")
    source = open_data(tmp_path / "list.csv")
    assert source.paths == ["0 ü&.png"] and source.read(0).shape == (8, 10, 3)
    assert source.skipped == [{"path": "memory://other/a.png", "reason": "at another address than the rest"}]
    (tmp_path / "list.csv").write_text(f"path\n{server}/photos/train/cat/0.png\n")
    with pytest.raises(TapetumError, match="only what you type yourself is fetched"):
        open_data(tmp_path / "list.csv")
    assert not Server.given


@pytest.mark.parametrize("scheme", ["ftp", "sftp", "smb", "webhdfs", "github", "filecache::ftp"])
def test_a_list_on_the_disk_names_no_server(scheme, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "_system", lambda *_: pytest.fail("a server is asked"))
    (tmp_path / "list.csv").write_text(f"path\n{scheme}://127.0.0.1:9/a.png\n")
    with pytest.raises(TapetumError, match="a list on the disk may name a bucket alone"):
        open_data(tmp_path / "list.csv")


@pytest.mark.parametrize("up", ["..%2F..%2F..%2F", "..%5C..%2f..%2F..%2F", "C:..%2F..%2F..%2F"])
def test_a_copy_stays_in_the_cache(up, tmp_path, zipped, png, server, monkeypatch):
    zipped({"a.png": png(0)}, "small.zip")
    real = Server.answer
    monkeypatch.setattr(Server, "answer", lambda self, body: real(renamed(self, "/small.zip"), body))
    assert len(open_data(f"filecache::{server}/{up}photos.zip")) == 1
    assert [path.name for path in (cache_dir() / "copies").rglob("*.zip")] == ["photos.zip"]
    assert not list(cache_dir().parent.glob("*.zip"))
    for name in ("%2e%2e", "%00.zip", "a%2F"):
        with pytest.raises(TapetumError, match="its last part is no name of a file"):
            place(f"filecache::{server}/{name}").copied()


def renamed(request, path):
    request.path = path
    return request


def test_a_page_of_links_leads_nowhere_above(tmp_path, write, png, server):
    write({"a.png": png(0)})
    write({"secret.png": png(1)}, "")
    above = ["%2e%2e/", ".%2E/", "%2e%2e/secret.png", "x%2F..%2F..%2Fsecret.png", "..%5Csecret.png"]
    Server.links = above
    source = open_data(f"{server}/photos")
    assert source.paths == ["a.png"] and not source.skipped


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("memory://nowhere/at-all", "there is no memory://nowhere/at-all"),
        ("nonsense://bucket/a.zip", "there is no way to nonsense://"),
        ("s3:///a.zip", "names no host or bucket"),
        ("zip://a::memory://b", "an archive is named as s3://bucket/photos.zip"),
        ("memory://far/a.pack", "filecache::memory://far/a.pack copies a file"),
    ],
)
def test_addresses_that_lead_nowhere(typed, sentence):
    fsspec.filesystem("memory").pipe_file("/far/a.pack", b"x")
    with pytest.raises(TapetumError, match=re.escape(sentence)):
        open_data(typed)


def test_a_name_nearly_right(tmp_path, write, png, memory):
    write({"a.png": png(0)})
    with pytest.raises(TapetumError, match=r"there is no memory://m\d+/photoz; did you mean 'photos'\?"):
        open_data(f"{memory()}/photoz")


def test_a_missing_package_is_named(monkeypatch):
    def missing(name):
        raise ImportError("Install s3fs to access S3")

    asking._system.cache_clear()
    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(TapetumError, match="s3:// needs one more package: Install s3fs to access S3"):
        open_data("s3://bucket/photos")
    asking._system.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(TapetumError, match=r"need fsspec: pip install 'tapetum\[remote\]'"):
        open_data("s3://bucket/photos")
    asking._system.cache_clear()
