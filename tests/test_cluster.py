"""Work spread over a Ray cluster: every input is done once, whichever machines die."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from dimofs import cluster
from dimofs.cli import InputError, arguments
from dimofs.cluster import Cluster, Outcome, TaskSize, all_done, connected, do_here
from dimofs.zoo import pose
from tests.support.clips import write_clip
from tests.support.ray_cluster import Counting, Node, free_port

# --- without Ray ---


def test_inputs_done_here_fail_one_by_one(tmp_path):
    work = Counting(tmp_path, fails=(1,))()
    assert list(do_here(work, [3, 1, 2])) == [Outcome(0), Outcome(1, "1: is no good"), Outcome(2)]
    assert (tmp_path / "3.txt").read_text() == "the square of 3 is 9\n" and not (tmp_path / "1.txt").exists()


def test_inputs_done_together_fail_one_by_one():
    done = []

    class Work:
        def __call__(self, item: int) -> str | None:
            done.append(item)
            return f"{item}: is odd" if item % 2 else None

        def together(self, items):
            for item in items:
                if item == 4:
                    raise MemoryError
                yield self(item)

    outcomes = list(do_here(Work(), [2, 3, 4, 5]))
    assert outcomes == [Outcome(0), Outcome(1, "3: is odd"), Outcome(2), Outcome(3, "5: is odd")]
    # From the one that fails among the others on, each is done alone.
    assert done == [2, 3, 4, 5]


def test_an_unforeseen_error_is_told_in_a_line(monkeypatch):
    def work(_: int) -> None:
        raise ValueError("two\nlines")

    (outcome,) = do_here(work, [0])
    assert outcome.failure == "unexpected ValueError: two (DIMOFS_DEBUG=1 shows where)"
    monkeypatch.setenv("DIMOFS_DEBUG", "1")
    with pytest.raises(ValueError, match="two"):
        next(do_here(work, [0]))


def test_failures_are_printed_with_the_name_of_the_input(capsys):
    assert all_done(iter([Outcome(0), Outcome(1)]), ["a", "b"], "video", quiet=True)
    assert not all_done(iter([Outcome(1, "died"), Outcome(0, "a: no video")]), ["a", "b"], "video", quiet=True)
    assert capsys.readouterr().err.splitlines() == ["error: b: died", "error: a: no video"]


def test_without_ray_the_remedy_is_told(monkeypatch):
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(cluster, "import_module", absent)
    with pytest.raises(InputError, match=r"pip install 'dimofs\[cluster\]'"):
        Cluster("auto")


@pytest.mark.parametrize("address", ["nonsense", "host:port", ":1", "a:99999", "ray://", "[::"])
def test_bad_addresses_are_refused(monkeypatch, address):
    monkeypatch.setattr(cluster, "import_module", lambda _: None)
    with pytest.raises(InputError, match="no address; give auto, local, HOST:PORT"):
        Cluster(address)


def test_an_address_where_nothing_listens_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(cluster, "import_module", lambda _: None)
    with pytest.raises(InputError, match="nothing answers there"):
        Cluster(f"127.0.0.1:{free_port()}")


@pytest.mark.parametrize("options", ["--show", "--video -"])
def test_what_other_machines_cannot_do_is_refused(tmp_path, monkeypatch, capsys, options):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "a.mp4", 2)
    line = f"--video a.mp4 --ray auto {options}"
    with pytest.raises(InputError, match="leave out"):
        run_pose(line)


def run_pose(line: str) -> int:
    return pose.main(**arguments(pose.main, line.split()))


# --- a cluster of two nodes ---


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[str, list[Node]]]:
    """The address of a cluster, and its nodes: a head and another one, a CPU each."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'dimofs[cluster]'")
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="ray"))
    started: list[Node] = []
    try:
        started.append(await_node(lambda: Node(folder, port, head=True), lambda: listens(port)))
        with connected(f"127.0.0.1:{port}") as reached:

            def joined() -> bool:
                return reached.ray.cluster_resources().get("CPU", 0) == 2

            started.append(await_node(lambda: Node(folder, port, head=False), joined))
        yield f"127.0.0.1:{port}", started
    finally:
        for node in reversed(started):
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def await_node(start: Callable[[], Node], ready: Callable[[], bool]) -> Node:
    """A node once it is ready. On a busy machine Ray gives up waiting for its own processes, and is started again."""
    node = start()
    end = time.monotonic() + 120
    while not ready():
        if time.monotonic() > end:
            node.kill()
            pytest.fail("no node of Ray starts")
        if node.process.poll() is not None:
            node = start()
        time.sleep(0.2)
    return node


def listens(port: int) -> bool:
    try:
        cluster._check_reached(f"127.0.0.1:{port}")
    except InputError:
        return False
    return True


def await_true(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.mark.slow
def test_an_input_that_ends_its_process_fails_alone(nodes, tmp_path, monkeypatch):
    address, _ = nodes
    monkeypatch.setattr(cluster, "RETRIES", 1)
    make = Counting(tmp_path, dies=(2,), fails=(3,))
    with connected(address) as reached:
        outcomes = {o.number: o.failure for o in reached.do(make, list(range(6)), TaskSize(inputs=3))}
    assert sorted(outcomes) == list(range(6))
    assert outcomes[3] == "3: is no good" and "WorkerCrashedError" in str(outcomes[2])
    assert {number for number, failure in outcomes.items() if failure is None} == {0, 1, 4, 5}


@pytest.mark.slow
def test_poses_are_those_of_a_run_without_ray(nodes, tmp_path, monkeypatch):
    address, _ = nodes
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_clip(tmp_path / f"{name}.mp4", 3)
    common = "--video a.mp4 b.mp4 none.mp4 --size 64 --delta 1 --no-overlay --quiet --score 0"
    assert run_pose(f"{common} --out here --batch 1") == 2
    assert run_pose(f"{common} --out there --ray {address}") == 2
    for name in ("a.poses.jsonl", "b.poses.jsonl"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_no_input_is_lost_or_done_twice_when_a_machine_dies(nodes, tmp_path):
    """The last test of the cluster, of which a node is killed."""
    address, started = nodes
    count, make = 24, Counting(tmp_path, seconds=0.15)
    make.log.touch()

    def kill_in_the_middle() -> None:
        # Both nodes work by then.
        await_true(lambda: len(make.begun()) >= 6 and len({parent for *_, parent in make.begun()}) == 2, 30)
        started[1].kill()

    killer = Thread(target=kill_in_the_middle)
    killer.start()
    with connected(address) as reached:
        outcomes = list(reached.do(make, list(range(count)), TaskSize(inputs=2)))
    killer.join()
    assert sorted(outcome.number for outcome in outcomes) == list(range(count))
    assert all(outcome.failure is None for outcome in outcomes)
    for number in range(count):
        assert (tmp_path / f"{number}.txt").read_text() == f"the square of {number} is {number * number}\n"
    assert not list(tmp_path.glob(".*.part"))
    begun = Counter(number for number, *_ in make.begun())
    # Only the input at which the killed node worked is begun again.
    assert set(begun) == set(range(count)) and sum(begun.values()) <= count + 1 and max(begun.values()) <= 2
