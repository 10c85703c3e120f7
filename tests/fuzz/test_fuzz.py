"""Every parser that meets outside bytes, on damaged inputs and on all that once broke one."""

import random
import sys

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as effort
from hypothesis import strategies as any_

import benchmark_modules
from tapetum.base.errors import TapetumError

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


PLANTED = {
    **dict.fromkeys((long_sentence, steering), "a sentence"),
    **dict.fromkeys((elsewhere, swallowed), "open: "),
    removed: "os.remove: ",
    program: "subprocess.Popen: ",
    unpickled: "pickle.find_class: ",
    memory: "took ",
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


def test_checksums_are_right_again_after_damage():
    for name, target in targets.TARGETS.items():
        if target.mend:
            assert target.mend(target.mend(target.seeds()[0])) == target.mend(target.seeds()[0]), name
    for name in ("png", "pack"):
        target = targets.TARGETS[name]
        assert all(target.mend(data) == data for data in target.seeds())
