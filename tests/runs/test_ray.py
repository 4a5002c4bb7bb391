"""Stages as Ray tasks, on a cluster of two nodes that is started here: what is made, who dies, what no node can see."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd_bench.errors import UserError
from kd_bench.runs.execute import Executor, execute
from kd_bench.runs.store import Store
from tests.runs.fake_stages import console, contents, diamond, jobs, run_stage, stage

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
MEMORY = 80 * 2**20  # of each node's object store, which nothing here uses


@pytest.fixture(scope="module")
def ray():
    return pytest.importorskip("ray", reason="Ray is not installed: pip install 'kd-bench[ray]'")


@pytest.fixture(scope="module")
def cluster(ray):
    from ray.cluster_utils import Cluster

    made = Cluster()
    for _ in range(2):
        made.add_node(num_cpus=1, num_gpus=0, object_store_memory=MEMORY, include_dashboard=False)
    made.wait_for_nodes()
    yield made
    made.shutdown()


@pytest.fixture
def on_ray(cluster):
    return Executor(kind="ray", address=cluster.address)


def test_a_cluster_makes_what_one_process_makes(tmp_path, on_ray):
    stages, here, there = diamond(), Store(tmp_path / "here"), Store(tmp_path / "there")
    execute(jobs(*stages), here, console(), run_stage=run_stage)
    said = console()
    folders = execute(jobs(*stages), there, said, run_stage=run_stage, executor=on_ray)
    assert folders == {some.key: there.path(some) for some in stages}
    assert contents(there, stages) == contents(here, stages)
    assert said.export_text().count("given to Ray") == 5
    assert {path.name for path in there.root.iterdir()} >= {some.key for some in stages}
    assert not (there.root / ".probes").exists()


def test_stages_run_on_both_nodes_at_once(tmp_path, on_ray):
    b, c = stage("b", meet=["c"]), stage("c", meet=["b"])
    execute(jobs(b, c), Store(tmp_path), console(), run_stage=note_node, executor=on_ray)
    assert len({file.read_text() for file in tmp_path.glob("init-*/node")}) == 2


def note_node(stage, inputs, out, context):
    import ray

    run_stage(stage, inputs, out, context)
    (out / "node").write_text(ray.get_runtime_context().get_node_id())


def test_a_stage_whose_worker_is_killed_goes_on_from_its_checkpoint(tmp_path, on_ray):
    store, said = Store(tmp_path), console()
    a = stage("a", kill=1)
    execute(jobs(a, stage("b", a)), store, said, run_stage=run_stage, executor=on_ray)
    assert (store.path(a) / "tries").read_text() == "2"
    assert "its process died" in said.export_text()


def test_a_stage_whose_node_dies_goes_on_on_another(tmp_path, cluster, on_ray):
    store, said = Store(tmp_path), console()
    doomed = cluster.add_node(num_cpus=1, resources={"doomed": 1}, object_store_memory=MEMORY)
    slow = stage("slow")
    raylet = doomed.all_processes["raylet"][0].process.pid
    wanted = iter([{"resources": {"doomed": 1}}])  # at first: then any node may have it
    with subprocess.Popen([sys.executable, "-c", KILLER, store.partial(slow), str(raylet)]):
        execute(jobs(slow), store, said, run_stage=sleep_at_first, executor=on_ray,
                needs=lambda job, on_gpu: next(wanted, {}))  # fmt: skip
    assert (store.path(slow) / "tries").read_text() == "2"
    assert "its process died (" in said.export_text()
    cluster.remove_node(doomed)


KILLER = """
import os, sys, time
from pathlib import Path
folder, raylet = Path(sys.argv[1]), int(sys.argv[2])
while not (folder / "tries").is_file():
    time.sleep(0.1)
for pid in (raylet, int((folder / "pid").read_text())):
    os.kill(pid, 9)
"""


def sleep_at_first(stage, inputs, out, context):
    first = not (out / "tries").exists()
    (out / "pid").write_text(str(os.getpid()))
    run_stage(stage, inputs, out, context)
    if first:
        time.sleep(120)


def test_a_users_mistake_comes_back_as_that_and_is_not_tried_again(tmp_path, on_ray):
    store, said = Store(tmp_path), console()
    bad = stage("bad", fail="the loss is NaN")
    with pytest.raises(UserError, match=r"^training: the loss is NaN$"):
        execute(jobs(bad), store, said, run_stage=run_stage, executor=on_ray)
    assert (store.partial(bad) / "tries").read_text() == "1"
    assert execute(jobs(bad, may_fail=[bad]), store, said, run_stage=run_stage, executor=on_ray) == {}
    assert store.failed(bad) == "training: the loss is NaN"


def test_any_other_error_comes_with_its_traceback(tmp_path, on_ray):
    with pytest.raises(RuntimeError, match=r"fake_stages\.py[\s\S]*RuntimeError: boom"):
        execute(jobs(stage("a", crash="boom")), Store(tmp_path), console(), run_stage=run_stage, executor=on_ray)


def test_what_no_node_has_is_refused_and_not_waited_for(tmp_path, on_ray):
    with pytest.raises(UserError, match=r"a: no node of the Ray cluster has what it needs: CPU 1, GPU 3\.$"):
        execute(jobs(stage("a")), Store(tmp_path), console(), run_stage=run_stage, executor=on_ray,
                needs=lambda job, on_gpu: {"num_gpus": 3})  # fmt: skip


def test_stages_that_fill_a_nodes_memory_do_not_share_it(tmp_path, ray, on_ray):
    b, c = stage("b", meet=["c"]), stage("c", meet=["b"])
    with ray.init(on_ray.address, log_to_driver=False):
        least = min(node["Resources"]["memory"] for node in ray.nodes() if node["Alive"])
    execute(jobs(b, c), Store(tmp_path), console(), run_stage=note_node, executor=on_ray,
            needs=lambda job, on_gpu: {"memory": int(least), "num_cpus": 0.01})  # fmt: skip
    assert len({file.read_text() for file in tmp_path.glob("init-*/node")}) == 2


def test_more_memory_than_any_node_has_is_all_of_a_nodes(tmp_path, on_ray):
    a, store = stage("a"), Store(tmp_path)
    execute(jobs(a), store, console(), run_stage=run_stage, executor=on_ray,
            needs=lambda job, on_gpu: {"memory": 2**50})  # fmt: skip
    assert store.done(a)


def test_a_node_that_does_not_see_the_store_stops_the_run_before_any_work(tmp_path, cluster, on_ray):
    """A node in a mount namespace of its own, with something else where the store is."""
    if not sys.platform.startswith("linux") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this system lets nobody make a mount namespace")
    root = tmp_path / "shared"
    root.mkdir()
    script = (
        f"mount -t tmpfs none {root} && exec {Path(sys.executable).parent}/ray start --address={cluster.address} "
        f"--num-cpus=1 --object-store-memory={MEMORY} --block"
    )
    known = {node["NodeID"] for node in nodes(cluster)}
    with subprocess.Popen(["unshare", "-rm", "sh", "-c", script], stdout=subprocess.DEVNULL) as blind:
        try:
            while not (new := {n["NodeID"] for n in nodes(cluster) if n["Alive"]} - known):
                assert blind.poll() is None
                time.sleep(0.5)
            with pytest.raises(UserError) as told:
                execute(jobs(stage("a")), Store(root), console(), run_stage=run_stage, executor=on_ray)
        finally:
            blind.terminate()
    assert told.value.where == str(root)
    (problem,) = told.value.problems
    assert new.pop()[:8] in problem and "does not see the run's folder (No such file or directory)" in problem
    assert {path.name for path in root.iterdir()} == {".lock"}


def nodes(cluster) -> list[dict]:
    import ray

    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        return ray.nodes()
    finally:
        ray.shutdown()


def test_an_address_where_nobody_listens_is_told_within_seconds(tmp_path, ray):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    with pytest.raises(UserError, match=f"--address: 127.0.0.1:{port}: nobody answers there"):
        execute(jobs(stage("a")), Store(tmp_path), console(), run_stage=run_stage,
                executor=Executor(kind="ray", address=f"127.0.0.1:{port}"))  # fmt: skip
    assert not list(tmp_path.glob("init-*"))


def test_an_address_where_something_else_listens_is_told(tmp_path, ray, monkeypatch):
    monkeypatch.setattr("kd_bench.runs.executors.on_ray._CONNECT", 8)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match="something is there, and no Ray cluster answers"):
            execute(jobs(stage("a")), Store(tmp_path), console(), run_stage=run_stage,
                    executor=Executor(kind="ray", address=address))  # fmt: skip


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed: pip install 'kd-bench\[ray\]'"):
        execute(jobs(stage("a")), Store(tmp_path), console(), run_stage=run_stage, executor=Executor(kind="ray"))


def test_what_is_done_asks_for_no_cluster(tmp_path):
    store, stages = Store(tmp_path), diamond()
    execute(jobs(*stages), store, console(), run_stage=run_stage)
    away = Executor(kind="ray", address="127.0.0.1:1")
    assert len(execute(jobs(*stages), store, console(), run_stage=run_stage, executor=away)) == 5
