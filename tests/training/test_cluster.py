"""cgan_tf.training.cluster: two replicas against one, two workers, and invalid options."""

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

from cgan_tf.core import replicas
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import pipeline
from cgan_tf.training import cluster

ROOT = Path(__file__).parents[2]
FAST = ("smoke", "resume")
SLOW = (
    *("r1", "batch_norm", "gp", "style", "ragan", "ada", "wgan", "spectral"),
    *("regressor", "judge", "inversion", "features", "directions"),
    *("resume_gan", "resume_resident"),
)
WELL_CONDITIONED = ("r1", "gp", "batch_norm", "inversion", "features", "directions")
# These objectives depend on differences of logits only: the gradient of D's last bias is rounding
# noise, which Adam amplifies, and all logits move with the bias.
NOISE = {
    "wgan": ("discriminator/0008", "d_optimizer/"),
    "ragan": ("discriminator/0007", "d_optimizer/0016", "real_logits", "fake_logits"),
}


def run_replicas(cache: Path, out: Path, cases: tuple[str, ...]) -> dict:
    command = [sys.executable, "tests/helpers/two_replicas.py", str(cache), str(out), *cases]
    # With all threads: the bounds were measured so, and sums are rounded differently with one.
    env = {name: value for name, value in os.environ.items() if "_THREADS" not in name}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def fast(cache, faces, tmp_path_factory):
    """Results of the fast cases, from one process."""
    return run_replicas(cache, tmp_path_factory.mktemp("fast") / "out.json", FAST)


@pytest.fixture(scope="module")
def slow(cache, faces, tmp_path_factory):
    return run_replicas(cache, tmp_path_factory.mktemp("slow") / "out.json", SLOW)


def assert_equal_training(
    result: dict, noise: tuple[str, ...] = (), from_zero: float = 1e-4
) -> None:
    """Weights within 1e-4 of one replica's after 20 steps, losses within 1e-5 in each step.

    After the first step Adam's moments are the gradients times a constant: within 1e-3, since those
    through VGG16's ReLUs and poolings differ by rounding of 1e-4. The distance of two tensors is
    |a - b| / |b| in the Euclidean norm: for a single number near zero, rounding alone can be
    relatively large. Errors of losses above 1 are relative.

    Args:
        result: a result of `two_replicas.compare`.
        noise: prefixes of the names to ignore.
        from_zero: bound for weights that start at zero (biases, batch norm's offsets). They consist
            of their updates only, half of which may be below 1e-4 of a kernel's norm.
    """
    assert len(result["errors"]) == two_replicas.STEPS
    noise = noise or "-"
    for errors in result["errors"]:
        for name, error in errors.items():
            assert error < 1e-5 or name.startswith(noise), name
    moved = [name for name, change in result["moved"].items() if change > 1e-4]
    assert any(not name.startswith(("optimizer", "g_opt", "d_opt", "seed")) for name in moved)
    for name, error in result["first"].items():
        assert error < 1e-3 or name.startswith(noise), name
    for name, error in result["last"].items():
        if "optimizer" not in name and not name.startswith(noise):
            assert error < (from_zero if name in result["from_zero"] else 1e-4), name


# Two replicas and one.


def test_two_replicas_train_like_one(fast):
    assert_equal_training(fast["smoke"])
    assert all(losses["r1"] > 0 for losses in fast["smoke"]["losses"])


def assert_resumed(result: dict) -> None:
    assert result and all(result.values()), result


def test_two_replicas_resume_bit_for_bit(fast):
    assert_resumed(fast["resume"])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["resume_gan", "resume_resident"])
def test_a_gan_on_two_replicas_resumes_bit_for_bit(slow, case):
    assert_resumed(slow[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in SLOW if "resume" not in case])
def test_two_replicas_train_like_one_with_other_options_and_in_other_stages(slow, case):
    bound = 1e-4 if case in WELL_CONDITIONED else 1e-2
    assert_equal_training(slow[case], NOISE.get(case, ()), from_zero=bound)


@pytest.mark.slow
@pytest.mark.parametrize("case, names", [("r1", ["r1"]), ("batch_norm", ["r1", "r2"])])
def test_every_third_of_the_compared_steps_was_penalized(slow, case, names):
    for name in names:
        penalized = [losses[name] > 0 for losses in slow[case]["losses"]]
        assert penalized == [step % 3 == 0 for step in range(two_replicas.STEPS)]


# Each replica's rows.


@pytest.mark.parametrize("passes", [1, 2])
def test_the_rows_of_the_replicas_make_up_the_batch(faces, monkeypatch, passes):
    options = {"labels": True, "passes": passes, "start": 48}
    batch = next(iter(pipeline.training_batches(faces, "train", 16, 5, **options)))
    parts = {}
    for own in (range(0, 2), range(2, 4)):  # two workers of two replicas
        monkeypatch.setattr(replicas, "shares", lambda own=own: (4, own))
        batches = iter(pipeline.training_batches(faces, "train", 16, 5, **options))
        for replica in own:
            parts[replica] = next(batches)
    for index, expected in enumerate(batch):
        rows = np.asarray(expected).reshape(passes, 4, 4 // passes, *expected.shape[1:])
        for replica in range(4):
            got = np.asarray(parts[replica][index])
            np.testing.assert_array_equal(got.reshape(rows[:, 0].shape), rows[:, replica])


def test_with_one_replica_the_helpers_are_the_identity():
    value = tf.constant([1.0, 2.0])
    assert replicas.own_rows(value) is value
    assert replicas.batch_mean(value) is value
    assert replicas.shares() == (1, range(1))
    assert replicas.workers() == 1 and replicas.is_chief()
    cluster.leave_to_chief()  # does nothing


# Invalid options.


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
        ("{nonsense", "not JSON"),
        ("[1]", "not a JSON object"),
        ({"cluster": ["a:1"]}, "list of addresses"),
        ({"cluster": {"worker": "a:1"}}, "list of addresses"),
        ({"cluster": {"ps": ["a:1"], "worker": ["b:2"]}}, "the job ps"),
        ({"cluster": {"worker": ["a:1", "b"]}}, "'b' is not HOST:PORT"),
        ({"cluster": {"chief": ["a:1", "b:2"]}, "task": {"type": "chief", "index": 0}}, "chief"),
        ({"task": None}, "no type or no index"),
        ({"task": {"type": "worker"}}, "no type or no index"),
        ({"task": {"type": "chief", "index": 0}}, "'chief' is not a job"),
        ({"task": {"type": "worker", "index": 2}}, "from 0 to 1"),
        ({"task": {"type": "worker", "index": "x"}}, "from 0 to 1"),
    ],
)
def test_an_invalid_cluster_is_reported_in_one_line(change, what):
    text = change if isinstance(change, str) else json.dumps(CLUSTER | change)
    with pytest.raises(UserError) as caught:
        cluster.parse_cluster(text)
    line = str(caught.value)
    assert line.startswith("TF_CONFIG: ") and what in line and "\n" not in line


@pytest.mark.parametrize(
    "devices, what",
    [
        (("TPU:0",), "TPU:0 is not a device"),
        (("CPU",), "CPU is not a device"),
        (("CPU:0", "GPU:0"), "not both"),
        (("CPU:0", "CPU:0"), "twice"),
        (("CPU:1",), "count from CPU:0"),
        (("GPU:99",), "this machine has"),
    ],
)
def test_an_invalid_device_is_reported(devices, what):
    with pytest.raises(UserError) as caught:
        cluster.start(devices)
    assert str(caught.value).startswith(f"--devices={','.join(devices)}: ")
    assert what in str(caught.value)


def test_workers_on_cpus_have_one_device_each():
    parsed = cluster.parse_cluster(json.dumps(CLUSTER))
    with pytest.raises(UserError) as caught:
        cluster.start(("CPU:0", "CPU:1"), parsed)
    assert str(caught.value).startswith("--devices=CPU:0,CPU:1: ")
    assert "start more workers" in str(caught.value)


def test_auto_without_a_gpu_is_one_cpu_device():
    assert cluster.start(("auto",)) == ("CPU:0",)
    assert replicas.strategy().num_replicas_in_sync == 1


# Workers: processes on this machine.

FLAGS = {
    "seed": 1,
    "synthetic_size": 100,
    "resolution": 32,
    "precision": "float32",
    "gan_batch_size": 8,
    "gan_width": 4,
    "gan_z_dim": 8,
    "gan_kimg": 0.16,
    "gan_penalty_interval": 3,
    "gan_gamma": 10,
    "gan_g_lr": 1e-5,
    "gan_d_lr": 1e-5,
}
# The command with shorter timeouts.
SHORT = (
    "import sys\n"
    "from cgan_tf.training import cluster\n"
    "from cgan_tf.__main__ import main\n"
    "cluster.JOIN_TIMEOUT, cluster.HEARTBEAT_TIMEOUT = %d, 20\n"
    "sys.argv[1:1] = ['train']\n"
    "main()\n"
)


def tf_config(addresses, index):
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


def start_worker(addresses, index, folder, cache, code=None, **options):
    """Starts the command of one worker; without addresses, of a single process."""
    # All threads: with one, sums over half of a batch and over the whole round differently.
    environment = {name: value for name, value in os.environ.items() if "_THREADS" not in name}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    environment.pop("TF_CONFIG", None)
    if addresses:
        environment["TF_CONFIG"] = tf_config(addresses, index)
    given = FLAGS | {"cache_dir": cache, "run_dir": folder, "stage": "gan"} | options
    flags = [f"--{name}={value}" for name, value in given.items()]
    command = [sys.executable, *(["-c", code] if code else ["train_main.py"]), *flags]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def two_addresses():
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


@pytest.mark.slow
def test_two_workers_train_like_one_process(tmp_path, cache, faces):
    addresses = two_addresses()
    workers = [start_worker(addresses, index, tmp_path / "two", cache) for index in range(2)]
    printed = [worker.communicate() for worker in workers]
    for worker, (out, err) in zip(workers, printed, strict=True):
        assert worker.returncode == 0, (out, err[-3000:])
    assert "devices: 2 replicas on 2 workers share each batch (CPU:0)" in printed[0][0]
    assert printed[1][0] == "" and printed[1][1] == ""
    alone = start_worker(None, 0, tmp_path / "one", cache)
    assert alone.wait() == 0
    one, two = (
        tiny.final_state(RunFolder(tmp_path / name).stage("gan")) for name in ("one", "two")
    )
    for name, value in one.items():
        assert two_replicas.distance(two[name], value) < 1e-4, name
    lines = [RunFolder(tmp_path / name).stage("gan").read_stats() for name in ("one", "two")]
    for a, b in zip(*lines, strict=True):
        for name in ("g_loss", "d_loss", "r1"):
            assert b[name] == pytest.approx(a[name], abs=1e-5 * max(1.0, abs(a[name])))


@pytest.mark.slow
def test_all_workers_end_with_the_message_of_the_chief(tmp_path):
    addresses = two_addresses()
    workers = [
        subprocess.Popen(
            [sys.executable, "tests/helpers/worker.py", str(tmp_path)],
            cwd=ROOT,
            env=os.environ | {"TF_CONFIG": tf_config(addresses, index)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for index in range(2)
    ]
    printed = [worker.communicate(timeout=300) for worker in workers]
    for worker, (out, err) in zip(workers, printed, strict=True):
        assert worker.returncode == 0, (out, err[-3000:])
    end = "the last checkpoint is kept; lower --toy_lr, with --restart"
    expected = {
        "collapse": f"gan: collapsed at 0.03 kimg; {end}",
        "infinite_weight": f"gan: a weight is not finite at 0.04 kimg; {end}",
        "interrupted": "SIGTERM: saved step-000000005.npz at 0.1 kimg; the same command resumes",
        "damaged": f"{tmp_path}/damaged/gan/checkpoints: all checkpoints are damaged; "
        "--stage=gan --restart moves the stage aside and starts over",
        "end": "no labels",
    }
    for out, _ in printed:
        assert json.loads(out) == expected


def cluster_of(addresses, index):
    return cluster.Cluster({"worker": addresses}, "worker", index)


def test_workers_wait_for_each_other():
    addresses = [*two_addresses(), "other:1"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        late = [
            pool.submit(cluster.rendezvous, cluster_of(addresses, index), 20) for index in (2, 1)
        ]
        time.sleep(0.3)
        assert not any(worker.done() for worker in late)
        cluster.rendezvous(cluster_of(addresses, 0), 20)
        assert [worker.result() for worker in late] == [None, None]


@pytest.mark.parametrize("index, missing", [(0, 1), (1, 0)])
def test_a_worker_that_does_not_connect_is_reported_in_one_line(index, missing):
    addresses = two_addresses()
    began = time.monotonic()
    with pytest.raises(UserError, match="within 0.5 seconds") as caught:
        cluster.rendezvous(cluster_of(addresses, index), 0.5)
    assert 0.5 <= time.monotonic() - began < 5
    line = str(caught.value)
    assert line.startswith(f"TF_CONFIG: {addresses[missing]} did not ")
    assert "\n" not in line


def test_a_port_in_use_is_reported():
    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match=f"^TF_CONFIG: cannot listen at {address} "):
            cluster.rendezvous(cluster_of([address, "other:1"], 0), 1)


@pytest.mark.slow
def test_the_command_reports_a_missing_worker(tmp_path, cache, faces):
    addresses = two_addresses()
    worker = start_worker(addresses, 0, tmp_path / "run", cache, SHORT % 2)
    out, err = worker.communicate(timeout=300)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert worker.returncode == 2 and len(errors) == 1 and "Traceback" not in err, err[-3000:]
    assert f"{addresses[1]} did not connect within" in errors[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_worker_ends_the_other_one_and_the_job_resumes(tmp_path, cache, faces, lost):
    options = {"gan_kimg": 1.6, "checkpoint_minutes": 1e-9}
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
    assert len(errors) == 1 and "another worker is lost" in errors[0], err[-3000:]
    assert time.monotonic() - began < 90
    workers[lost].communicate()
    addresses = two_addresses()
    workers = [start_worker(addresses, index, folder, cache, **options) for index in range(2)]
    printed = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], printed
    assert "resuming at" in printed[0][0]
    uninterrupted = [
        start_worker(addresses, index, tmp_path / "uninterrupted", cache, **options)
        for index in range(2)
    ]
    assert [worker.communicate() and worker.returncode for worker in uninterrupted] == [0, 0]
    tiny.assert_equal_state(
        tiny.final_state(RunFolder(folder).stage("gan")),
        tiny.final_state(RunFolder(tmp_path / "uninterrupted").stage("gan")),
    )
