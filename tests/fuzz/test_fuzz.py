"""Every parser that meets outside bytes, on damaged inputs and on all that once broke one."""

import json
import random
import socket
import struct
import sys
import time
import zlib

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as effort
from hypothesis import strategies as any_

import benchmark_modules
from tapetum.base.errors import TapetumError
from tapetum.base.files import short_id
from tapetum.data.packed import HEADER, digest

pytest.importorskip("pyarrow")
targets = benchmark_modules.load("fuzzing.targets")
judge = benchmark_modules.load("fuzzing.judge")
child = benchmark_modules.load("fuzzing.child")
mutate = benchmark_modules.load("fuzzing.mutate")
CASES = targets.cases()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """place(name) -> the folder of a parser, with what must stand beside its input."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            if targets.TARGETS[name].beside:
                targets.TARGETS[name].beside(made[name])
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPETUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield of


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_damaged_input_gives_a_value_or_one_sentence(name, place):
    target = targets.TARGETS[name]
    folder, seeds = place(name), target.seeds()
    for data in seeds:
        assert judge.judged(target, data, folder) is None

    @given(any_.integers(0, 2**32 - 1))
    @effort(
        max_examples=40,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def damaged(seed):
        dice = random.Random(seed)
        found = judge.judged(target, child.changed(target, dice.choice(seeds), dice, seeds), folder)
        assert found is None, f"{found.why}\n{found.trace}"

    damaged()


@pytest.mark.parametrize("case", CASES, ids=[f"{case['parser']}-{case['id']}" for case in CASES])
def test_what_once_broke_a_parser_does_so_no_more(case, place):
    target = targets.TARGETS[case["parser"]]
    found = judge.judged(target, targets.decoded(case["data"]), place(case["parser"]))
    assert found is None, f"{found.why}\n{found.trace}"


# ---- and the loop can find ----


def planted(run):
    return judge.Target(run, lambda: [b"a whole file, of which all is well", b"another"])


def after_seven(data, folder):
    """A parser with a planted bug: it reads beyond the end where a header has a certain byte."""
    if data[:1] == b"a":
        return data[len(data)] if data[5:6] == b"\x7f" else None
    raise TapetumError("not a file of this kind.")


def test_a_planted_bug_is_found_and_made_small(tmp_path):
    target, found = planted(after_seven), {}

    def one(data):
        if wrong := judge.judged(target, data, tmp_path):
            found[wrong.id] = data, wrong
        one.left -= 1
        return one.left > 0 and not found

    one.left = 30_000
    child.by_chance(one, target, target.seeds(), seed=0)
    [(data, wrong)] = found.values()
    assert wrong.why.startswith("IndexError") and "after_seven" in wrong.trace

    def same(shorter):
        again = judge.judged(target, shorter, tmp_path)
        return again is not None and again.id == wrong.id

    assert mutate.minimised(data, same)[:1] == b"a" and len(mutate.minimised(data, same)) == 6


def memory(data, folder):
    return bytearray(b"x") * (judge.GROWTH + 10**8)


def long_sentence(data, folder):
    error = TapetumError("short")
    error.args = ("x" * judge.LONGEST,)
    raise error


def steering(data, folder):
    error = TapetumError("short")
    error.args = ("a name with \x1b[2J in it",)
    raise error


def elsewhere(data, folder):
    (folder.parent / "elsewhere").write_bytes(data)


def swallowed(data, folder):
    try:
        elsewhere(data, folder)
    except Exception as error:
        raise TapetumError("cannot be read.") from error


def removed(data, folder):
    (folder.parent / "kept").unlink()


def program(data, folder):
    import subprocess

    subprocess.run([sys.executable, "-c", ""], check=False)


def unpickled(data, folder):
    import pickle

    pickle.loads(b"cos\nsystem\n.")


def connecting(data, folder):
    with socket.socket() as line:
        line.connect(("127.0.0.1", 9))


def sending(data, folder):
    with socket.socket(type=socket.SOCK_DGRAM) as line:
        line.sendto(data, ("127.0.0.1", 9))


PLANTED = {
    **dict.fromkeys((long_sentence, steering), "a sentence"),
    **dict.fromkeys((elsewhere, swallowed), "open: "),
    removed: "os.remove: ",
    program: "subprocess.Popen: ",
    unpickled: "pickle.find_class: ",
    connecting: "socket.connect: ",
    sending: "socket.sendto: ",
    memory: " MB",
}


@pytest.mark.parametrize("run, why", PLANTED.items(), ids=[run.__name__ for run in PLANTED])
def test_each_kind_of_finding_is_found(run, why, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (tmp_path / "kept").write_bytes(b"")
    found = judge.judged(planted(run), b"x", folder)
    assert found is not None and why in found.why
    assert (tmp_path / "kept").exists() and not (tmp_path / "elsewhere").exists()
    assert (
        judge.judged(planted(lambda data, folder: (folder / "own").write_bytes(data)), b"x", folder) is None
    )


def test_what_takes_too_long_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(judge, "PATIENCE", 0.1)

    def spinning(data, folder):
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    found = judge.judged(planted(spinning), b"x", tmp_path)
    assert found is not None and found.why == "took 0 seconds"


# ---- and damage gets beyond checksums ----


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_what_is_whole_needs_no_mending():
    mending = {name: target for name, target in targets.TARGETS.items() if target.mend}
    assert mending.keys() == {"png", "pack", "checkpoint", "results", "classifier"}
    for name in ("png", "pack"):
        assert all(mending[name].mend(data) == data for data in mending[name].seeds())


def test_the_checksum_of_a_chunk_is_right_again():
    target = targets.TARGETS["png"]
    for data in target.seeds():
        damaged = flipped(data, 20)  # IHDR: its length is at 8, its name at 12, its checksum at 29
        checksum = zlib.crc32(damaged[12:29]).to_bytes(4, "big")
        assert target.mend(damaged) == damaged[:29] + checksum + damaged[33:] != damaged


def test_the_digests_of_a_pack_are_right_again():
    target = targets.TARGETS["pack"]
    for data in target.seeds():
        table, index = struct.unpack_from("<QQ", data, 24)
        damaged = flipped(flipped(data, table), index)
        mended = target.mend(damaged)
        assert mended[HEADER:] == damaged[HEADER:] and mended[:40] == damaged[:40]
        assert mended[40:56] == digest(damaged[table:index]) != damaged[40:56]
        assert mended[56:72] == digest(damaged[index:]) != damaged[56:72]
        assert mended[HEADER - 16 : HEADER] == digest(mended[: HEADER - 16]) != damaged[HEADER - 16 : HEADER]


def test_the_digest_of_a_checkpoints_facts_is_right_again():
    target = targets.TARGETS["checkpoint"]
    [data] = [data for data in target.seeds() if b'"step": 1' in data]
    facts = json.loads(target.mend(data.replace(b'"step": 1', b'"step": 2'))[1:])
    claimed, whole = facts.pop("digest"), json.loads(data[1:])
    assert facts["step"] == 2 and claimed == short_id(facts) != whole["digest"]
    other = json.dumps(whole | {"files": {}, "format": 99}).encode()
    assert json.loads(target.mend(data[:1] + other)[1:]) == whole


def test_the_ids_of_results_are_right_again():
    target = targets.TARGETS["results"]
    whole = json.loads(target.seeds()[0])
    for row in whole["results"]:
        row["protocol"]["version"], row["subject"]["weights"] = 2, "others"
    for row, before in zip(json.loads(target.mend(json.dumps(whole).encode()))["results"], whole["results"]):
        assert row["protocol_id"] == short_id(before["protocol"]) != before["protocol_id"]
        assert row["subject_id"] == short_id(before["subject"]) != before["subject_id"]


def test_the_digest_of_a_classifiers_facts_is_right_again():
    target = targets.TARGETS["classifier"]
    whole = json.loads(target.seeds()[0])
    facts = json.loads(target.mend(json.dumps(whole | {"k": 2}).encode()))
    claimed = facts.pop("digest")
    assert facts["k"] == 2 and claimed == short_id(facts) != whole["digest"]
