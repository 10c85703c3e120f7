"""Lists, tables and saved data sets whose rows point elsewhere or claim what cannot be."""

import json
from pathlib import Path

from hostile.made import ESC, TAG, Case, photo, photos, written

HEAD = "path,label\n"
OUTSIDE = "/etc/hostname"
TIGHT = "over 200 times as long as they are packed"


def _list(text: str | bytes, name: str = "it.csv"):
    def make(folder: Path) -> str:
        photos(folder)
        return written(name, text)(folder)

    return make


def _rows(*rows: str, name: str = "it.csv"):
    return _list(HEAD + "cat/0.png,good\n" + "\n".join(rows) + "\n", name)


def _linked(folder: Path) -> str:
    photos(folder)
    (folder / "a.png").symlink_to("/dev/zero")
    (folder / "b.png").symlink_to("/proc/kcore")
    return written("it.csv", HEAD + "a.png,x\nb.png,y\ncat/0.png,z\n")(folder)


def _parquet(table: dict, name: str = "it.parquet", **how):
    def make(folder: Path) -> str:
        import pyarrow
        from pyarrow import parquet

        photos(folder)
        parquet.write_table(pyarrow.table(table), folder / name, **how)
        return name

    return make


def _images(*paths: str):
    """A Parquet file whose rows hold no image but name a file."""
    good = {"bytes": photo(), "path": "good.png"}
    return _parquet({"image": [good, *({"bytes": None, "path": path} for path in paths)]})


def _same(count: int, column: str):
    """A small file of very many equal rows."""

    def make(folder: Path) -> str:
        import pyarrow
        from pyarrow import parquet

        values = pyarrow.array(["a.png" if column == "path" else b"x"]).take(pyarrow.array([0] * 1000))
        with parquet.ParquetWriter(folder / "it.parquet", pyarrow.schema([(column, values.type)])) as file:
            chunks = pyarrow.chunked_array([values] * (count // 1000))
            file.write_table(pyarrow.table({column: chunks}), row_group_size=count)
        return "it.parquet"

    return make


def _zeros(count: int = 8):
    """Images that are very long, and next to nothing when they are packed."""
    import pyarrow

    return pyarrow.table({"image": pyarrow.array(count * [bytes(40 * 2**20)])})


def _shared(column: str, long: bytes | str, count: int, **others: list):
    """Rows that all have one long value, which stands in the file once."""
    import pyarrow

    values = pyarrow.DictionaryArray.from_arrays(pyarrow.array(count * [0], pyarrow.int16()), [long])
    return pyarrow.table({**others, column: values})


def _packed(table):
    """A table as Parquet, packed as tightly as can be."""

    def make(folder: Path) -> str:
        from pyarrow import parquet

        photos(folder)
        how = {"compression": "zstd", "dictionary_pagesize_limit": 2**30, "store_schema": False}
        parquet.write_table(table(), folder / "it.parquet", **how)
        return "it.parquet"

    return make


def _streamed(table, form: str = "stream", packing: str | None = "zstd"):
    """A table in a form of Arrow's."""

    def make(folder: Path) -> str:
        import pyarrow

        rows, how = table(), pyarrow.ipc.IpcWriteOptions(compression=packing)
        with (
            pyarrow.OSFile(str(folder / "it.arrow"), "wb") as file,
            getattr(pyarrow.ipc, f"new_{form}")(file, rows.schema, options=how) as out,
        ):
            out.write_table(rows)
        return "it.arrow"

    return make


def _noted(features: object):
    """A Parquet file with notes as Hugging Face writes them."""

    def make(folder: Path) -> str:
        import pyarrow
        from pyarrow import parquet

        table = pyarrow.table({"image": [photo()] * 3, "label": [0, 1, 2]})
        notes = features if isinstance(features, str) else json.dumps({"info": {"features": features}})
        parquet.write_table(table.replace_schema_metadata({"huggingface": notes}), folder / "it.parquet")
        return "it.parquet"

    return make


def _arrow(kind: str):
    """An Arrow file whose rows take no room, or are cut."""

    def make(folder: Path) -> str:
        import pyarrow

        count = 10**9 if kind == "many" else 10
        column = pyarrow.StructArray.from_arrays([pyarrow.nulls(count)], ["bytes"])
        table = pyarrow.table({"image": column})
        with (
            pyarrow.OSFile(str(folder / "it.arrow"), "wb") as file,
            pyarrow.ipc.new_stream(file, table.schema) as out,
        ):
            out.write_table(table)
        if kind == "cut":
            content = (folder / "it.arrow").read_bytes()
            (folder / "it.arrow").write_bytes(content[: len(content) // 2])
        return "it.arrow"

    return make


def _saved(dataset: object = None, state: object = None):
    """A folder that a data set was saved to, as Hugging Face does."""

    def make(folder: Path) -> str:
        place = folder / "it"
        place.mkdir()
        if dataset is not None:
            (place / "dataset_dict.json").write_text(json.dumps(dataset))
        if state is not None:
            (place / "state.json").write_text(json.dumps(state))
        return "it"

    return make


CASES = [
    Case(
        "list: a path that goes up to a secret",
        "look",
        _rows("../../../../../../etc/passwd,x"),
        "is not an image",
    ),
    Case("list: an absolute path to a secret", "look", _rows("/etc/shadow,x"), "is not an image"),
    Case("list: a path through a file", "look", _rows("cat/0.png/../../x.png,x"), "x.png is not there"),
    Case("list: an address", "look", _rows("http://127.0.0.1:9/a.png,x"), "only what you type yourself"),
    Case("list: an address of a file", "look", _rows("file:///etc/passwd.png,x"), "names no host"),
    Case(
        "list: an address of a server of files", "look", _rows("ftp://127.0.0.1:9/a.png,x"), "a bucket alone"
    ),
    Case(
        "list: an address in a cloud",
        "look",
        _rows("s3://bucket/a.png,x", "simplecache::http://x/a.png,y"),
        "",
    ),
    Case("list: a share of Windows", "look", _rows("\\\\server\\share\\a.png,x"), "is not there"),
    Case(
        "list: a command",
        "look",
        _rows("|touch canary.png,x", "$(touch canary).png,x", "`touch canary`.png,x"),
        "is not there",
    ),
    Case("list: a device", "look", _rows("/dev/zero,x", "/dev/stdin,y"), "is not an image"),
    Case("list: links to devices", "look", _linked, "is empty"),
    Case("list: a name with a zero", "look", _rows("a\0.png,x"), "is not there"),
    Case("list: a name that commands a terminal", "look_at", _rows(f"{ESC}.png,x"), "1 image "),
    Case("list: a name of 100,000 letters", "look", _rows("a" * 100_000 + ".png,x"), "is not there"),
    Case("list: a field of 10 MB", "look", _rows("a" * 10**7 + ".png,x"), "cannot be read as a table"),
    Case("list: a quote that never ends", "look", _rows('"cat/1.png,x\n' * 20_000), "is not there"),
    Case(
        "list: 100,000 columns",
        "look",
        _list(",".join(f"c{i}" for i in range(100_000)) + "\n"),
        "no column of image paths",
    ),
    Case("list: no line", "look", _list(""), "it.csv is empty"),
    Case("list: zeros", "look", _list(bytes(10_000)), "it.csv"),
    Case(
        "list: bytes that are no text",
        "look",
        _list(b"path\n\xff\xfe\xfa.png\n"),
        "cannot be read as a table",
    ),
    Case(
        "list: another coding",
        "look",
        _list("path\ncat/0.png\n".encode("utf-16")),
        "cannot be read as a table",
    ),
    Case("list: a class that is a formula", "look", _rows("dog/1.png,=cmd|' /C calc'!A0"), "2 images"),
    Case("list: a class that is a tag", "look", _rows(f"dog/1.png,{TAG}"), "2 images"),
    Case("list: a split that goes up", "look", _list("path,split\ncat/0.png,../../x\n"), "1 images"),
    Case(
        "list: JSON nested without end",
        "look",
        _list('{"path": ' * 10**5, "it.jsonl"),
        "cannot be read as a table",
    ),
    Case("list: JSON that is no rows", "look", _list("[1]\n3\n", "it.jsonl"), "one JSON object a line"),
    Case(
        "list: JSON of a number of 10,000 digits",
        "look",
        _list('{"path": ' + "9" * 10_000 + "}\n", "it.jsonl"),
        "cannot be read as a table",
    ),
    Case(
        "list: JSON whose path is a list", "look", _list('{"path": ["cat/0.png"]}\n', "it.jsonl"), "it.jsonl"
    ),
    Case(
        "list: JSON of a path that is nearly an address",
        "look",
        _list(json.dumps({"path": "x " + "a." * 2**18 + " ://b.png"}), "it.jsonl"),
        "can be read",
    ),
    Case(
        "list: JSON of a path of spaces",
        "look",
        _list(json.dumps({"path": "x" + " " * 2**18 + "y.png"}), "it.jsonl"),
        "can be read",
    ),
    Case(
        "list: JSON of not-a-number",
        "look",
        _list('{"path": NaN, "label": Infinity}\n', "it.jsonl"),
        "listed without a path",
    ),
    Case(
        "list: Parquet that is none",
        "look",
        _list("PAR1" + "\0" * 40 + "PAR1", "it.parquet"),
        "cannot be read as Parquet",
    ),
    Case(
        "list: Parquet whose foot is 4 GB",
        "look",
        _list(b"PAR1" + bytes(40) + b"\xff\xff\xff\xff" + b"PAR1", "it.parquet"),
        "cannot be read as Parquet",
    ),
    Case(
        "list: Parquet of paths that go up",
        "look",
        _parquet({"path": ["../../../etc/passwd", "cat/0.png"]}),
        "is not an image",
    ),
    Case(
        "list: Parquet of very many equal rows",
        "look",
        _same(10**7, "path"),
        "says that it has 10,000,000 rows",
    ),
    Case("table: very many equal images", "look", _same(10**7, "image"), "says that it has 10,000,000 rows"),
    Case("table: a row that names a device", "look", _images("/dev/zero"), "names no file in the folder"),
    Case("table: a row that names a secret", "look", _images(OUTSIDE), "names no file in the folder"),
    Case(
        "table: a row that goes up",
        "look",
        _images("../../../../../../etc/hostname"),
        "names no file in the folder",
    ),
    Case(
        "table: a row that names an address",
        "look",
        _images("http://127.0.0.1:9/a.png"),
        "names no file in the folder",
    ),
    Case("table: a row that names a folder", "look", _images("cat"), "names no file in the folder"),
    Case("table: a row that names a zero", "look", _images("a\0b"), "its row cannot be read"),
    Case(
        "table: rows that are no images", "look", _parquet({"image": [b"MZ", b"", b"\xff\xd8"]}), "is damaged"
    ),
    Case("table: notes that are no JSON", "look", _noted("{"), "cannot be read"),
    Case("table: notes nested without end", "look", _noted("[" * 10**5), "cannot be read"),
    Case("table: notes that are a list", "look", _noted("[]"), "cannot be read"),
    Case(
        "table: class names that are a number",
        "look",
        _noted({"label": {"_type": "ClassLabel", "names": 5}}),
        "cannot be read",
    ),
    Case(
        "table: fewer class names than classes",
        "look",
        _noted({"label": {"_type": "ClassLabel", "names": ["a"]}}),
        "beyond the 1 classes",
    ),
    Case(
        "table: class names that are tags",
        "look",
        _noted({"label": {"_type": "ClassLabel", "names": [TAG, ESC, "[/]"]}}),
        "3 images",
    ),
    Case("arrow: very many rows without room", "look", _arrow("many"), "says that it has"),
    Case("table: images that unpack to gigabytes", "look", _packed(_zeros), TIGHT),
    Case(
        "table: one long image that all rows share",
        "look",
        _packed(lambda: _shared("image", bytes(10 * 2**20), 200)),
        TIGHT,
    ),
    Case(
        "list: one long text that all rows share",
        "look",
        _packed(lambda: _shared("caption", "a" * 10 * 2**20, 200, path=200 * ["cat/0.png"])),
        TIGHT,
    ),
    Case("arrow: images that unpack to gigabytes", "look", _streamed(_zeros), TIGHT),
    Case(
        "arrow: images that unpack to gigabytes, as a file",
        "look",
        _streamed(_zeros, "file", "lz4"),
        TIGHT,
    ),
    Case(
        "arrow: one long class that all rows share",
        "look",
        _streamed(lambda: _shared("label", "a" * 2**20, 3000, image=3000 * [b"x"]), packing=None),
        TIGHT,
    ),
    Case("arrow: cut in the middle", "look", _arrow("cut"), "it.arrow"),
    Case("arrow: no Arrow at all", "look", written("it.arrow", b"ARROW1\0\0" + bytes(100)), "it.arrow"),
    Case("saved: a split that goes up", "look", _saved({"splits": ["../.."]}), "is no name of a file in it"),
    Case(
        "saved: a split that is the folder above", "look", _saved({"splits": [".."]}), "is no name of a file"
    ),
    Case("saved: a split without a name", "look", _saved({"splits": [""]}), "is no name of a file in it"),
    Case(
        "saved: a split that is absolute", "look", _saved({"splits": ["/etc"]}), "is no name of a file in it"
    ),
    Case("saved: splits that are none", "look", _saved({}), "is not a saved data set"),
    Case("saved: splits that are a number", "look", _saved({"splits": 3}), "is not a saved data set"),
    Case("saved: a list of splits alone", "look", _saved(["train"]), "is not a saved data set"),
    Case(
        "saved: a file elsewhere",
        "look",
        _saved(state={"_data_files": [{"filename": "../../../etc/passwd"}]}),
        "is no name of a file in it",
    ),
    Case(
        "saved: a file that is a device",
        "look",
        _saved(state={"_data_files": [{"filename": "/dev/zero"}]}),
        "is no name of a file in it",
    ),
    Case("saved: files that are none", "look", _saved(state={"_data_files": [3]}), "is not a saved data set"),
    Case("saved: nothing", "look", _saved(state={}), "holds no images"),
    Case("labels: paths that go up", "labels", _list("path,label\n../photos/cat/0.png,x\n"), "none of the"),
    Case("labels: a class that commands a terminal", "labels", _list(f"path,label\ncat/0.png,{ESC}\n"), "1"),
    Case(
        "labels: a field of 10 MB",
        "labels",
        _list("path,label\ncat/0.png," + "a" * 10**7 + "\n"),
        "cannot be read as a table",
    ),
]
