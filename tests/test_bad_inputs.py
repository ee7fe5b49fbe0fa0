"""A sample of the bad inputs of `tests.bad_inputs`; `python -m tests.bad_inputs` runs all of them."""

import sys

import pytest

from tests import bad_inputs
from tests.support import sandbox

EVERY = 16
# Those of which one run takes seconds.
TOO_SLOW = (
    "eval.carry", "eval.claim", "eval.diving48", "eval.dives", "eval.motion", "eval.pck", "zoo.extract", "zoo.motion",
    "zoo.negatives", "zoo.recognize",
)  # fmt: skip
FAST = [c for c in bad_inputs.cases() if c.entry not in TOO_SLOW and not c.name.startswith("huge")]
SAMPLE = FAST[::EVERY]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are limited and measured as Linux does"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The files that the commands read, with a small model under a name of its own."""
    with bad_inputs.prepared(tmp_path_factory.mktemp("bad") / "template") as folder:
        yield folder


@pytest.mark.parametrize(
    "case", SAMPLE, ids=lambda case: f"{case.entry}: {case.name}".encode("unicode_escape").decode()
)
def test_ends_in_one_line_or_with_the_right_result(case, template):
    outcome = case.run(template)
    assert outcome.kind not in sandbox.BUGS, f"{outcome.kind}: {outcome.reason}"


def test_the_sandbox_tells_bad_ends_apart(tmp_path):
    """Each kind of end, by the shortest program that ends so."""
    (tmp_path / "empty").mkdir()

    def ends(action, **options) -> str:
        return sandbox.run(action, tmp_path / "empty", **options).kind

    def say(text: str, status: int):
        def action() -> None:
            print(text)
            sys.exit(status)

        return action

    assert ends(lambda: None) == "right result"
    assert ends(lambda: None, check=lambda folder: not list(folder.iterdir())) == "right result"
    assert ends(lambda: None, check=lambda folder: False) == "silently wrong"
    assert ends(lambda: None, must_fail=True) == "silently wrong"
    assert ends(say("error: x.mp4: is empty", 2)) == "clear error"
    assert ends(say("error: x.mp4: is empty\nand more", 2)) == "many lines"
    assert ends(say("", 3)) == "odd exit"
    assert ends(lambda: 1 / 0) == "traceback"
    assert ends(lambda: __import__("os").abort()) == "crash"
    assert ends(lambda: __import__("time").sleep(60), timeout=0.3) == "hang"
    assert ends(lambda: open(".x.part", "w").close()) == "leftovers"
    assert ends(lambda: bytearray(3 << 30)) == "memory"
