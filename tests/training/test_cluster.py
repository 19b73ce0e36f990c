"""cgan_tf.distribution: two replicas against one, two workers, what is refused."""

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tiny
import two_replicas

from cgan_tf.core import config as config_module
from cgan_tf.core import replicas
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import pipeline
from cgan_tf.training import cluster

ROOT = Path(__file__).parents[2]
FAST = ("r1", "gp", "batch_norm", "inversion", "directions", "resume")
SLOW = ("style", "ragan", "ada", "wgan", "spectral", "regressor", "judge")
# D's bias in a game of differences has a gradient that is nothing but rounding, which Adam blows
# up; both sides' logits move with it.
NOISE = {
    "wgan": ("discriminator/0008", "d_optimizer/"),
    "ragan": ("discriminator/0007", "d_optimizer/0016", "real_logits", "fake_logits"),
}


def run_replicas(cache: Path, out: Path, cases: tuple[str, ...]) -> dict:
    command = [sys.executable, "tests/helpers/two_replicas.py", str(cache), str(out), *cases]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def fast(cache, faces, tmp_path_factory):
    """Results of the cases that every test run sees; one process for all, to import once."""
    return run_replicas(cache, tmp_path_factory.mktemp("fast") / "out.json", FAST)


@pytest.fixture(scope="module")
def slow(cache, faces, tmp_path_factory):
    return run_replicas(cache, tmp_path_factory.mktemp("slow") / "out.json", SLOW)


def assert_as_one(result: dict, noise: tuple[str, ...] = (), from_zero: float = 1e-4) -> None:
    """Weights within 1e-4 of one replica's after 20 steps, losses within 1e-5 in each step.

    After the first step Adam's moments hold the gradients themselves, times a constant: within
    1e-3, for those through VGG16's rectifiers and poolings round to 1e-4. A tensor's
    distance is that of its tensor, |a - b| / |b| in the Euclidean norm: in a single number near
    zero, rounding alone can be large beside it. A loss's is relative from 1 on.

    Args:
        result: what `two_replicas.compare` says of a case.
        noise: starts of the names that are left out.
        from_zero: bound of the weights that began at zero (biases, batch norm's offsets). They are
            nothing but their own movement, of which a kernel's 1e-4 lets a half and more differ.
    """
    assert len(result["losses"]) == two_replicas.STEPS
    noise = noise or "-"
    for losses in result["losses"]:
        for name, error in losses.items():
            assert error < 1e-5 or name.startswith(noise), name
    moved = [name for name, change in result["moved"].items() if change > 1e-4]
    assert any(not name.startswith(("optimizer", "g_opt", "d_opt", "seed")) for name in moved)
    for name, error in result["first"].items():
        assert error < 1e-3 or name.startswith(noise), name
    for name, error in result["last"].items():
        if "optimizer" not in name and not name.startswith(noise):
            assert error < (from_zero if name in result["from_zero"] else 1e-4), name


# Two replicas and one.


@pytest.mark.parametrize("case", [case for case in FAST if case != "resume"])
def test_two_replicas_train_as_one(fast, case):
    assert_as_one(fast[case])


def test_the_penalties_that_were_compared_were_there(fast):
    for case, names in (("r1", ["r1"]), ("gp", ["gp"]), ("batch_norm", ["r1", "r2"])):
        for name in names:
            due = [step[name] > 0 for step in fast[case]["logs"]]
            assert due == [case == "gp" or step % 3 == 0 for step in range(two_replicas.STEPS)]


def test_two_replicas_resume_bit_for_bit(fast):
    assert fast["resume"] and all(fast["resume"].values()), fast["resume"]


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_two_replicas_train_as_one_in_the_other_games_and_stages(slow, case):
    assert_as_one(slow[case], NOISE.get(case, ()), from_zero=1e-2)


# Each replica's rows.


@pytest.mark.parametrize("passes", [1, 2])
def test_the_replicas_rows_make_up_the_batch(faces, monkeypatch, passes):
    options = {"labels": True, "passes": passes, "start": 48}
    whole = next(iter(pipeline.training_batches(faces, "train", 16, 5, **options)))
    parts = {}
    for own in (range(0, 2), range(2, 4)):  # two workers of two replicas
        monkeypatch.setattr(replicas, "shares", lambda own=own: (4, own))
        batches = iter(pipeline.training_batches(faces, "train", 16, 5, **options))
        for replica in own:
            parts[replica] = next(batches)
    for index, wanted in enumerate(whole):
        rows = np.asarray(wanted).reshape(passes, 4, 4 // passes, *wanted.shape[1:])
        for replica in range(4):
            got = np.asarray(parts[replica][index])
            np.testing.assert_array_equal(got.reshape(rows[:, 0].shape), rows[:, replica])


def test_one_replica_has_all_rows_and_means_of_its_own():
    value = tf.constant([1.0, 2.0])
    assert replicas.own_rows(value) is value
    assert replicas.batch_mean(value) is value
    assert replicas.shares() == (1, range(1))
    assert replicas.workers() == 1 and replicas.is_chief()
    cluster.leave_to_chief()  # does nothing


# What is refused.


def make_config(**options):
    return tiny.make_config(Path("cache"), **{"distribution": "auto"} | options)


CLUSTER = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}


def test_a_cluster():
    parsed = cluster.parse_cluster(json.dumps(CLUSTER))
    assert parsed == ({"worker": ["a:1", "b:2"]}, "worker", 1)
    assert parsed.addresses == ["a:1", "b:2"] and parsed.number == 1
    content = {"cluster": {"worker": ["b:2"], "chief": ["a:1"]}, "task": CLUSTER["task"]}
    content["task"] = {"type": "worker", "index": "0"}
    parsed = cluster.parse_cluster(json.dumps(content))
    assert parsed.addresses == ["a:1", "b:2"] and parsed.number == 1


@pytest.mark.parametrize("text", [None, "", " ", "{}", '{"cluster": {}}'])
def test_no_cluster(text):
    assert cluster.parse_cluster(text) is None


@pytest.mark.parametrize(
    "change, what",
    [
        ("{nonsense", "no JSON"),
        ("[1]", "no JSON object"),
        ({"cluster": ["a:1"]}, "list of addresses"),
        ({"cluster": {"worker": "a:1"}}, "list of addresses"),
        ({"cluster": {"ps": ["a:1"], "worker": ["b:2"]}}, "the job ps"),
        ({"cluster": {"worker": ["a:1", "b"]}}, "'b' is not HOST:PORT"),
        ({"cluster": {"chief": ["a:1", "b:2"]}, "task": {"type": "chief", "index": 0}}, "chief"),
        ({"task": None}, "no type or no index"),
        ({"task": {"type": "worker"}}, "no type or no index"),
        ({"task": {"type": "chief", "index": 0}}, "'chief' is no job"),
        ({"task": {"type": "worker", "index": 2}}, "from 0 to 1"),
        ({"task": {"type": "worker", "index": "x"}}, "from 0 to 1"),
    ],
)
def test_a_wrong_cluster_is_one_line(change, what):
    text = change if isinstance(change, str) else json.dumps(CLUSTER | change)
    with pytest.raises(UserError) as caught:
        cluster.parse_cluster(text)
    line = str(caught.value)
    assert line.startswith("TF_CONFIG: ") and what in line and "\n" not in line


@pytest.mark.parametrize(
    "devices, what",
    [
        (("TPU:0",), "no device"),
        (("CPU",), "no device"),
        (("CPU:0", "GPU:0"), "not both"),
        (("CPU:0", "CPU:0"), "twice"),
        (("CPU:1",), "from CPU:0 on"),
        (("GPU:99",), "this machine has"),
    ],
)
def test_an_unknown_device_is_named(devices, what):
    with pytest.raises(UserError) as caught:
        cluster.start(make_config(devices=devices))
    assert str(caught.value).startswith(f"--devices={','.join(devices)}: ")
    assert what in str(caught.value)


@pytest.mark.parametrize(
    "options, clustered, what",
    [
        ({"distribution": "multi_worker"}, False, "names no cluster"),
        ({"distribution": "mirrored"}, True, "names 2 workers"),
        ({"distribution": "none"}, True, "names 2 workers"),
        ({"distribution": "none", "devices": ("CPU:0", "CPU:1")}, False, "one device trains"),
        ({"devices": ("CPU:0", "CPU:1")}, True, "start more workers"),
    ],
)
def test_a_distribution_that_makes_no_sense_is_refused(options, clustered, what):
    parsed = cluster.parse_cluster(json.dumps(CLUSTER)) if clustered else None
    with pytest.raises(UserError) as caught:
        cluster.start(make_config(**options), parsed)
    assert str(caught.value).startswith("--devices=") and what in str(caught.value)


def test_nothing_given_is_one_device():
    assert cluster.start(make_config()) == "none"
    assert replicas.strategy().num_replicas_in_sync == 1


class Replicas:
    def __init__(self, count):
        self.num_replicas_in_sync = count


@pytest.mark.parametrize(
    "options, count, line",
    [
        ({}, 4, "--gan_batch_size=8: 4 replicas share it with groups of 4 (--gan_minibatch_std)"),
        ({"gan_minibatch_std": False}, 3, "--gan_batch_size=8: 3 replicas share it: must be divisible"),
        ({"regressor_batch_size": 3}, 2, "--regressor_batch_size=3: 2 replicas share it: must"),
        ({"inversion_batch_size": 3}, 2, "--inversion_batch_size=3: 2 replicas share it: must"),
        (
            {"gan_progressive": True, "level_batch_sizes": (12, 8, 8), "directions_batch_size": 8}, 2,
            "--level_batch_sizes=12: 2 replicas share it with groups of 4",
        ),
        ({"directions_batch_size": 4}, 2, "--directions_batch_size=4: 2 replicas share it with"),
        (
            {
                "gan_batch_size": 24, "regressor_batch_size": 6, "inversion_batch_size": 6,
                "directions_batch_size": 24,
            },
            6,
            "--devices=auto: 6 replicas cannot share the judge's batch of 128",
        ),
    ],
)  # fmt: skip
def test_a_batch_that_replicas_cannot_share_is_refused(monkeypatch, options, count, line):
    monkeypatch.setattr(replicas, "strategy", lambda: Replicas(count))
    with pytest.raises(UserError) as caught:
        cluster.check(make_config(**options))
    assert str(caught.value).startswith(line)


def test_batches_that_replicas_can_share(monkeypatch):
    monkeypatch.setattr(replicas, "strategy", lambda: Replicas(2))
    cluster.check(make_config(directions_batch_size=8))


def test_other_devices_are_no_stages_option():
    for name in ("distribution", "devices"):
        assert config_module.FIELDS[name].metadata["stages"] == ()


# Workers: processes on this machine.

FLAGS = {
    "preset": "demo", "synthetic_size": 100, "resolution": 32, "precision": "float32",
    "gan_batch_size": 8, "gan_width": 4, "gan_z_dim": 8, "gan_kimg": 0.16, "gan_penalty_interval": 3,
    "gan_gamma": 10, "directions_batch_size": 8, "gan_g_lr": 1e-5, "gan_d_lr": 1e-5,
}  # fmt: skip
# The library's times are made for clusters.
SHORT = (
    "import sys, train_main\n"
    "from cgan_tf import cli, distribution\n"
    "distribution.JOIN_SECONDS, distribution.LOST_SECONDS = %d, 20\n"
    "cli.run(train_main.main)\n"
)


def start_worker(addresses, index, folder, cache, code=None, **options):
    """One worker's command; without addresses a command of its own."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_CONFIG", None)
    if addresses:
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        )
    given = FLAGS | {"cache_dir": cache, "run_dir": folder, "stage": "gan"} | options
    flags = [f"--{name}={value}" for name, value in given.items()]
    command = [sys.executable, *(["-c", code] if code else ["train_main.py"]), *flags]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def two_addresses():
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def test_two_workers_train_as_one(tmp_path, cache, faces):
    addresses = two_addresses()
    workers = [start_worker(addresses, index, tmp_path / "two", cache) for index in range(2)]
    printed = [worker.communicate() for worker in workers]
    for worker, (out, err) in zip(workers, printed, strict=True):
        assert worker.returncode == 0, (out, err[-3000:])
    assert "multi_worker, 2 replicas on 2 workers" in printed[0][0]
    assert printed[1][0] == "" and printed[1][1] == ""
    alone = start_worker(None, 0, tmp_path / "one", cache)
    assert alone.wait() == 0
    one, two = (
        tiny.final_state(RunFolder(tmp_path / name).stage("gan")) for name in ("one", "two")
    )
    for name, value in one.items():
        assert two_replicas.distance(two[name], value) < 1e-4, name
    assert RunFolder(tmp_path / "two").load_config().distribution == "multi_worker"
    lines = [RunFolder(tmp_path / name).stage("gan").read_stats() for name in ("one", "two")]
    for a, b in zip(*lines, strict=True):
        for name in ("g_loss", "d_loss", "r1"):
            assert b[name] == pytest.approx(a[name], abs=1e-5 * max(1.0, abs(a[name])))


def cluster_of(addresses, index):
    return cluster.Cluster({"worker": addresses}, "worker", index)


def test_workers_wait_for_each_other():
    addresses = [*two_addresses(), "other:1"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        late = [
            pool.submit(cluster.rendezvous, cluster_of(addresses, index), 20)
            for index in (2, 1)
        ]
        time.sleep(0.3)
        assert not any(worker.done() for worker in late)
        cluster.rendezvous(cluster_of(addresses, 0), 20)
        assert [worker.result() for worker in late] == [None, None]


@pytest.mark.parametrize("index, missing", [(0, 1), (1, 0)])
def test_a_worker_that_does_not_come_is_one_line(index, missing):
    addresses = two_addresses()
    began = time.monotonic()
    with pytest.raises(UserError, match="within 0.5 seconds") as caught:
        cluster.rendezvous(cluster_of(addresses, index), 0.5)
    assert 0.5 <= time.monotonic() - began < 5
    line = str(caught.value)
    assert line.startswith(f"--devices=multi_worker: {addresses[missing]} did not ")
    assert "\n" not in line


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match=f"^TF_CONFIG: cannot listen at {address} "):
            cluster.rendezvous(cluster_of([address, "other:1"], 0), 1)


def test_the_command_says_who_did_not_come(tmp_path, cache, faces):
    addresses = two_addresses()
    worker = start_worker(addresses, 0, tmp_path / "run", cache, SHORT % 2)
    out, err = worker.communicate(timeout=300)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert worker.returncode == 2 and len(errors) == 1 and "Traceback" not in err, err[-3000:]
    assert f"{addresses[1]} did not come within" in errors[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_worker_ends_the_other_and_the_job_goes_on(tmp_path, cache, faces, lost):
    options = {"gan_kimg": 4, "checkpoint_minutes": 1e-9}
    addresses, folder = two_addresses(), tmp_path / "run"
    workers = [
        start_worker(addresses, index, folder, cache, SHORT % 100, **options) for index in range(2)
    ]
    while not list(folder.glob("gan/checkpoints/*.npz")):
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.1)
    workers[lost].send_signal(signal.SIGKILL)
    began = time.monotonic()
    out, err = workers[1 - lost].communicate(timeout=90)
    assert workers[1 - lost].returncode not in (0, None)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "another worker has gone" in errors[0], err[-3000:]
    assert time.monotonic() - began < 90
    workers[lost].communicate()
    addresses = two_addresses()
    workers = [start_worker(addresses, index, folder, cache, **options) for index in range(2)]
    printed = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], printed
    assert "going on at" in printed[0][0]
    whole = [
        start_worker(addresses, index, tmp_path / "whole", cache, **options) for index in range(2)
    ]
    assert [worker.communicate() and worker.returncode for worker in whole] == [0, 0]
    tiny.assert_equal_state(
        tiny.final_state(RunFolder(folder).stage("gan")),
        tiny.final_state(RunFolder(tmp_path / "whole").stage("gan")),
    )
