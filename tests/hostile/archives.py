"""Archives that lie, point elsewhere, or unfold into gigabytes."""

import io
import struct
import tarfile
import zipfile

from hostile.made import (
    CENTRAL,
    END,
    ESC,
    LOCAL,
    TURNED,
    Case,
    encrypted,
    lying,
    member,
    negative,
    overlapping,
    photo,
    png,
    tar_header,
    tarred,
    written,
    zipped,
)

GOOD = ("good.png", photo())
NAMES = {  # names that no member of an archive may have
    "a name that goes up": "../../up.png",
    "a name that goes up within": "a/../../up.png",
    "an absolute name": "/etc/absolute.png",
    "a name that goes up the way of Windows": "..\\..\\up.png",
    "an absolute name of Windows": "\\\\server\\share\\a.png",
    "a name with a drive": "C:\\a.png",
    "a name that commands a terminal": f"{ESC}.png",
    "a name of two lines": "a\nb.png",
    "a name with a carriage return": "a\rgood.png",
    "a name that is written backwards": f"{TURNED}.png",
    "a name with an isolate": "a\u2066b.png",
    "a name with a control of eight bits": "a\x9bb.png",
    "a name with a delete": "a\x7fb.png",
}


def _nested(folder):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.png", photo())
    return zipped(("inner.zip", inner.getvalue()))(folder)


def _bomb(packing: int):
    return zipped(GOOD, ("bomb.png", bytes(2**26)), packing=packing)


def _huge_directory(folder):
    """An end that promises a directory where none can be."""
    zipped(GOOD)(folder)
    return lying(lambda _: "it.zip", (END, 12, "<I", 2**31))(folder)


def _nul(folder):
    zipped(("aXb.png", photo()))(folder)
    content = (folder / "it.zip").read_bytes().replace(b"aXb.png", b"a\0b.png")
    (folder / "it.zip").write_bytes(content)


def _tar_of(*parts: bytes):
    return written("it.tar", b"".join(parts) + bytes(1024))


def _pax(records: dict[str, str]):
    return tarred(member("a.png", photo(), pax_headers=records))


def _header(size: int, kind: bytes) -> bytes:
    return tar_header(b"x", b"%011o\0" % size, kind)


def _many_long_names(folder):
    return _tar_of((_header(8, b"L") + b"a" * 8 + bytes(504)) * 3000, tar_header(b"a.png", b"0" * 11))(folder)


GOOD_TAR = member("good.png", photo())
BLOCK = tar_header(b"good.png", b"%011o\0" % len(photo())) + photo().ljust(
    -(-len(photo()) // 512) * 512, b"\0"
)
SPECIAL = {
    "a symbolic link": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "a symbolic link that goes up": {"type": tarfile.SYMTYPE, "linkname": "../../secret.png"},
    "a hard link": {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"},
    "a character device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
    "a block device": {"type": tarfile.BLKTYPE, "devmajor": 8},
    "a pipe": {"type": tarfile.FIFOTYPE},
}

CASES = [
    *(Case(f"zip: {n}", "look", zipped(GOOD, (name, photo())), "unsafe name") for n, name in NAMES.items()),
    *(
        Case(f"tar: {n}", "look", tarred(GOOD_TAR, member(name, photo())), "unsafe name")
        for n, name in NAMES.items()
    ),
    *(
        Case(f"tar: {n}", "look", tarred(GOOD_TAR, member("a.png", **how)), "link or special file")
        for n, how in SPECIAL.items()
    ),
    Case("zip: a name with a zero", "look", _nul, "unsafe name"),
    Case("zip: a member that is encrypted", "look", encrypted, "is encrypted"),
    Case("zip: members of the same bytes", "look", overlapping, "within another member"),
    Case("zip: a bomb", "look", _bomb(zipfile.ZIP_DEFLATED), "over 200 times as long"),
    Case("zip: a bomb of another packing", "look", _bomb(zipfile.ZIP_BZIP2), "over 200 times as long"),
    Case(
        "zip: a packing that is not known",
        "look",
        zipped(("a.png", photo()), packing=zipfile.ZIP_LZMA),
        "packed in an unknown way",
    ),
    Case("zip: the same name twice", "look", zipped(("a.png", photo(8)), ("a.png", photo(9))), "twice"),
    Case("zip: an archive within", "look", _nested, "not an image"),
    Case(
        "zip: a length that is too long", "look", lying(zipped(GOOD), (CENTRAL, 24, "<I", 10**6)), "checksum"
    ),
    Case("zip: a length that is too short", "look", lying(zipped(GOOD), (CENTRAL, 24, "<I", 10)), "checksum"),
    Case(
        "zip: a packed length beyond the end",
        "look",
        lying(zipped(GOOD), (CENTRAL, 20, "<I", 10**8)),
        "cut off",
    ),
    Case(
        "zip: a length of 4 GB less one",
        "look",
        lying(zipped(GOOD), (CENTRAL, 24, "<I", 2**32 - 2)),
        "over 200 times as long",
    ),
    Case(
        "zip: a stored length of 4 GB",
        "look",
        lying(zipped(GOOD, packing=0), (CENTRAL, 20, "<I", 2**32 - 2), (CENTRAL, 24, "<I", 2**32 - 2)),
        "longer than",
    ),
    Case(
        "zip: a mark of zip64 without its lengths",
        "look",
        lying(zipped(GOOD), (CENTRAL, 24, "<I", 2**32 - 1)),
        "it.zip",
    ),
    Case(
        "zip: a checksum of something else", "look", lying(zipped(GOOD), (CENTRAL, 16, "<I", 7)), "checksum"
    ),
    Case(
        "zip: a place that is none",
        "look",
        lying(zipped(GOOD), (CENTRAL, 42, "<I", 9)),
        "its place in the archive",
    ),
    Case("zip: a place beyond the end", "look", lying(zipped(GOOD), (CENTRAL, 42, "<I", 10**6)), "cut off"),
    Case("zip: a directory beyond the end", "look", _huge_directory, "damaged or incomplete"),
    Case(
        "zip: a directory before the beginning", "look", lying(zipped(GOOD), (END, 16, "<I", 2**31)), "it.zip"
    ),
    Case("zip: an end alone", "look", written("it.zip", END + bytes(18)), "holds no images"),
    Case(
        "zip: an end of zip64 that lies",
        "look",
        written(
            "it.zip",
            b"PK\6\6"
            + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 2**60, 2**60, 2**60, 2**60)
            + b"PK\6\7"
            + struct.pack("<IQI", 0, 0, 1)
            + END
            + b"\xff" * 16
            + bytes(2),
        ),
        "it.zip",
    ),
    Case("zip: packing that is damaged", "look", lying(zipped(GOOD), (LOCAL, 40, "<Q", 2**63)), "damaged"),
    Case(
        "zip: no zip at all", "look", written("it.zip", "#!/bin/sh\ntouch canary\n"), "damaged or incomplete"
    ),
    Case(
        "zip: an image that is a program",
        "look",
        zipped(GOOD, ("run.png", b"#!/bin/sh\ntouch canary\n")),
        "run.png is damaged: not an image",
    ),
    Case("zip: a huge image in it", "look", zipped(GOOD, ("big.png", png(60_000, 60_000))), "over the"),
    Case(
        "tar: a size below zero",
        "look",
        _tar_of(BLOCK, tar_header(b"a.png", negative(-512))),
        "damaged or incomplete",
    ),
    Case("tar: a size of minus one", "look", _tar_of(BLOCK, tar_header(b"a.png", negative(-1))), "damaged"),
    Case("tar: a size in PAX below zero", "look", _pax({"size": "-4096"}), "damaged"),
    Case("tar: a size in PAX beyond all", "look", _pax({"size": "9" * 18}), "it.tar"),
    Case(
        "tar: a size beyond the end",
        "look",
        _tar_of(BLOCK, tar_header(b"a.png", b"%011o\0" % 2**29)),
        "damaged or incomplete",
    ),
    Case(
        "tar: a size of many exabytes",
        "look",
        _tar_of(BLOCK, tar_header(b"a.png", b"\x80" + b"\x7f" * 11)),
        "damaged or incomplete",
    ),
    Case(
        "tar: a size that is no number",
        "look",
        _tar_of(BLOCK, tar_header(b"a.png", b"zzzzzzzzzzz\0")),
        "1 images",
    ),
    Case("tar: a long header", "look", _tar_of(_header(2**27, b"x"), bytes(2048)), "a header of"),
    Case("tar: a long name of gigabytes", "look", _tar_of(_header(2**32, b"L"), bytes(2048)), "a header of"),
    Case("tar: a long link of gigabytes", "look", _tar_of(_header(2**32, b"K"), bytes(2048)), "a header of"),
    Case("tar: headers of headers of headers", "look", _many_long_names, "it.tar"),
    Case(
        "tar: a file with holes of a terabyte",
        "look",
        _tar_of(BLOCK, tar_header(b"a.png", b"%011o\0" % 512, b"S", b"ustar  \0"), bytes(512)),
        "link or special file",
    ),
    Case(
        "tar: PAX of a sparse file",
        "look",
        _pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 18}),
        "it.tar",
    ),
    Case(
        "tar: PAX records that are cut",
        "look",
        _tar_of(_header(20, b"x"), b"99999 path=a".ljust(512, b"\0"), BLOCK),
        "it.tar",
    ),
    Case(
        "tar: PAX records of no length",
        "look",
        _tar_of(_header(20, b"x"), b"0 path=a\n".ljust(512, b"\0"), BLOCK),
        "it.tar",
    ),
    Case("tar: no tar at all", "look", written("it.tar", b"\0\1\2" * 1000), "damaged or incomplete"),
    Case("tar: a name twice", "look", tarred(member("a.png", photo(8)), member("a.png", photo(9))), "twice"),
    Case(
        "tar: compressed as a whole",
        "look",
        written("it.tar.gz", b"\x1f\x8b" + bytes(100)),
        "compressed as a whole",
    ),
    Case(
        "shards: a label of 100 MB",
        "look",
        tarred(
            member("a.png", photo()),
            member("a.cls", bytes(10**8)),
            member("b.png", photo()),
            member("b.cls", b"1"),
        ),
        "2 images",
    ),
    Case(
        "shards: a label that is no text",
        "look",
        tarred(member("a.png", photo()), member("a.cls", b"\xff\x1b[2J")),
        "1 images",
    ),
    Case(
        "shards: JSON nested without end",
        "look",
        tarred(member("a.png", photo()), member("a.json", b"[" * 10**5)),
        "1 images",
    ),
    Case(
        "shards: a label of markup",
        "look",
        tarred(
            member("a.png", photo()),
            member("a.cls", b"<img onerror=alert(1)>"),
            member("b.png", photo(9)),
            member("b.cls", b"[/bold]"),
        ),
        "2 images",
    ),
    Case(
        "masks: a mask in a zip that is none", "masks", zipped(("a.png", b"MZ not a mask")), "cannot be read"
    ),
    Case(
        "masks: boxes that are code",
        "masks",
        zipped(("a.txt", b"__import__('os').system('touch canary')")),
        "is no object",
    ),
    Case("masks: boxes of infinity", "masks", zipped(("a.txt", b"1 inf nan 1e309 2")), "is no object"),
    Case("masks: a huge mask", "masks", zipped(("a.png", png(50_000, 50_000, colour=0))), "a.png"),
]
