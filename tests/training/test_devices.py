"""cgan_tf.training.devices: GPUs that are used, hidden, unusable or absent, all simulated."""

import pytest
import tensorflow as tf
from refusal import message

from cgan_tf.training import cluster, devices
from cgan_tf.training.devices import Driver, Findings, Gpu

BUILD = {  # of the wheel of TensorFlow 2.21
    "is_cuda_build": True,
    "cuda_version": "12.5.1",
    "cudnn_version": "9",
    "cuda_compute_capabilities": ["sm_60", "sm_70", "sm_80", "sm_89", "compute_90"],
}
H200 = Gpu("NVIDIA H200", 140.4, 139.9, (9, 0))
RTX = Gpu("NVIDIA GeForce RTX 5090", 31.8, None, (12, 0))
DRIVER = Driver("570.86.15", (12, 8), (H200,))
NONE = Findings(None, None, (), BUILD)
FINE = Findings(DRIVER, None, (H200,), BUILD)
HIDDEN = Findings(DRIVER, "", (), BUILD)
LIBRARIES = Findings(DRIVER, None, (), BUILD, ("libcudnn.so.9", "libcufft.so.11"))
CONTAINER = Findings(DRIVER, None, (), BUILD, ("libcuda.so.1", "libcudnn.so.9"))
OLD = Findings(DRIVER._replace(version="470.57", cuda=(11, 4)), None, (), BUILD)
NO_CUDA = Findings(DRIVER, None, (), {"is_cuda_build": False})
OTHER = Findings(DRIVER, None, (), BUILD)
INSTALL = f'pip install "cgan_tf[gpu]", or "tensorflow[and-cuda]=={tf.__version__}"'


@pytest.mark.parametrize(
    "found, reason, remedy",
    [
        (
            HIDDEN,
            "sees none, because CUDA_VISIBLE_DEVICES= hides them",
            "unset CUDA_VISIBLE_DEVICES",
        ),
        (LIBRARIES, "cannot load libcudnn.so.9, libcufft.so.11", INSTALL),
        (CONTAINER, "cannot load libcuda.so.1, the driver's library", "docker run --gpus all"),
        (
            OLD,
            "is built for CUDA 12.5.1, and the driver 470.57 supports CUDA up to 11.4",
            "update the driver",
        ),
        (NO_CUDA, f"{tf.__version__} is a build without CUDA", INSTALL),
        (OTHER, "finds it not usable for another reason", "list_physical_devices"),
    ],
    ids=["hidden", "libraries", "container", "old driver", "no CUDA", "other"],
)
def test_a_gpu_that_tensorflow_does_not_use_is_explained_everywhere(found, reason, remedy):
    problem = devices.obstacle(found)
    assert problem.reason == reason and remedy in problem.remedy
    # Before a training; not if the user has asked for the CPU.
    device = f"device: CPU ({devices.cores()} cores), float32"
    assert devices.summary(found, ("CPU:0",), "float32") == [
        device,
        f"note: a GPU (NVIDIA H200) is present, but TensorFlow {reason}; training on the CPU; see "
        "cgan check",
    ]
    assert devices.summary(found, ("CPU:0",), "float32", requested=True) == [device]
    # By cgan check.
    gpu, why, what = devices.describe(found)
    assert gpu.startswith("NVIDIA H200 (140.4 GiB, 139.9 free, compute capability 9.0), driver ")
    assert why == f"not used: TensorFlow {reason}" and what == f"remedy: {problem.remedy}"
    # Where a GPU was asked for.
    assert devices.refusal(found) == (
        f"TensorFlow can use no GPU of this machine (NVIDIA H200): it {reason}; {problem.remedy}"
    )


def test_a_machine_without_a_gpu():
    assert devices.obstacle(NONE) is None
    assert len(devices.summary(NONE, ("CPU:0",), "float32")) == 1
    assert devices.describe(NONE) == ["none (no NVIDIA driver shows one)"]
    assert "no NVIDIA driver shows one" in devices.refusal(NONE)
    # The variable is named even if it may hide nothing.
    hiding = NONE._replace(visible="-1")
    assert "CUDA_VISIBLE_DEVICES=-1 would hide any" in devices.describe(hiding)[1]
    assert "CUDA_VISIBLE_DEVICES=-1 hides them" in devices.refusal(hiding)


def test_a_gpu_that_is_used():
    assert devices.obstacle(FINE) is None
    assert devices.summary(FINE, ("GPU:0",), "mixed_bfloat16") == [
        "device: NVIDIA H200 (140.4 GiB, 139.9 free, compute capability 9.0), mixed_bfloat16"
    ]
    gpu, how = devices.describe(FINE)
    assert gpu.endswith("driver 570.86.15 (CUDA 12.8)")
    assert how.startswith("used; kernels for 9.0 are compiled when first used")
    a100 = H200._replace(name="NVIDIA A100", capability=(8, 0))
    found = Findings(DRIVER._replace(gpus=(a100,)), None, (a100,), BUILD)
    assert devices.describe(found)[1:] == ["used by TensorFlow"]


def test_several_gpus():
    driver = DRIVER._replace(gpus=(H200, H200))
    both = Findings(driver, None, (H200, H200), BUILD)
    (line,) = devices.summary(both, ("GPU:0", "GPU:1"), "float32")
    assert line.startswith("device: 2 x NVIDIA H200 (140.4 GiB")
    one = both._replace(visible="1", usable=(H200,))
    assert "1 more hidden by CUDA_VISIBLE_DEVICES=1" in devices.describe(one)
    assert devices.obstacle(one) is None
    assert devices.names_of((H200, RTX)) == "NVIDIA H200, NVIDIA GeForce RTX 5090"


@pytest.mark.parametrize(
    "visible, count, expected",
    [
        (None, 1, False),
        ("", 1, True),
        ("-1", 1, True),
        ("-1,0", 2, True),  # the list ends at its first invalid entry
        ("none", 1, True),
        ("0", 1, False),
        ("1", 1, True),
        (" 1, 0", 2, False),
        ("GPU-8932f937", 1, False),
        ("MIG-8932f937", 1, False),
    ],
)
def test_what_hides_all_gpus(visible, count, expected):
    assert devices.hidden(visible, count) is expected


@pytest.mark.parametrize(
    "capability, expected",
    [
        ((5, 2), None),
        ((6, 1), "compiled"),
        ((7, 5), "compiled"),
        ((8, 6), "compiled"),
        ((8, 9), "compiled"),
        ((9, 0), "ptx"),
        ((10, 0), "ptx"),
        ((12, 0), "ptx"),
    ],
)
def test_the_kernels_of_the_wheel(capability, expected):
    assert devices.kernels(BUILD, capability) == expected


def test_machine_code_of_a_later_minor_version_does_not_run():
    assert devices.kernels({"cuda_compute_capabilities": ["sm_89"]}, (8, 0)) is None


@pytest.mark.parametrize(
    "gpu, text",
    [
        (RTX, "is reported to fail on it"),
        (Gpu("NVIDIA TITAN X", None, None, (5, 2)), "has no kernels for it"),
    ],
    ids=["reported broken", "no kernels"],
)
def test_a_gpu_without_working_kernels_is_a_warning(gpu, text):
    found = Findings(DRIVER._replace(gpus=(gpu,)), None, (gpu,), BUILD)
    _, note = devices.summary(found, ("GPU:0",), "float32")
    assert note.startswith(f"note: {gpu.name} (compute capability ") and text in note
    assert text in devices.describe(found)[1] and "--devices=CPU:0" in note
    unknown = gpu._replace(capability=None)
    assert devices.kernel_warning(BUILD, unknown) is None


# Probes.


class Nvml:
    """The driver's library with one GPU, as ctypes calls it; `broken` names fail."""

    def __init__(self, broken=()):
        self.broken = broken
        self.closed = False

    def __getattr__(self, name):
        def call(*arguments):
            if name in self.broken:
                return 1
            return getattr(self, f"_{name.removeprefix('nvml')}")(*arguments) or 0

        return call

    def _Init_v2(self):
        pass

    def _Shutdown(self):
        self.closed = True

    def _SystemGetDriverVersion(self, text, size):
        text.value = b"570.86.15"

    def _SystemGetCudaDriverVersion_v2(self, number):
        number._obj.value = 12080

    def _DeviceGetCount_v2(self, count):
        count._obj.value = 1

    def _DeviceGetHandleByIndex_v2(self, index, device):
        assert index.value == 0

    def _DeviceGetName(self, device, text, size):
        text.value = b"NVIDIA H200"

    def _DeviceGetMemoryInfo(self, device, memory):
        memory._obj.total, memory._obj.free = 140 * 2**30, 35 * 2**29

    def _DeviceGetCudaComputeCapability(self, device, major, minor):
        major._obj.value, minor._obj.value = 9, 0


def test_the_driver_is_asked_through_its_library():
    nvml = Nvml()
    assert devices.read_driver(lambda name: nvml) == Driver(
        "570.86.15", (12, 8), (Gpu("NVIDIA H200", 140.0, 17.5, (9, 0)),)
    )
    assert nvml.closed
    silent = Nvml(("nvmlSystemGetDriverVersion", "nvmlDeviceGetMemoryInfo"))
    driver = devices.read_driver(lambda name: silent)
    assert driver.version == "unknown" and driver.gpus[0].memory_gib is None


def test_without_the_library_the_driver_is_read_from_proc(tmp_path):
    def absent(name):
        raise OSError(name)

    assert devices.read_driver(absent, tmp_path) is None
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  545.23.08  Release Build\nGCC"
    )
    gpu = tmp_path / "gpus" / "0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   24\n")
    expected = Driver("545.23.08", None, (Gpu("NVIDIA H100 80GB HBM3"),))
    assert devices.read_driver(absent, tmp_path) == expected
    assert devices.read_driver(lambda name: Nvml(["nvmlInit_v2"]), tmp_path) == expected


def test_the_missing_libraries_are_named(tmp_path):
    packaged = tmp_path / "nvidia" / "cudnn" / "lib" / "libcudnn.so.9"
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    found = {"libcuda.so.1", "libcudart.so.12", "libcublas.so.12", str(packaged)}

    def load(name):
        if name == "libcusolver.so.11":  # it is there, but what it needs is not
            raise OSError("libnvJitLink.so.12: cannot open shared object file: No such file")
        if name not in found:
            raise OSError(f"{name}: cannot open shared object file: No such file")

    assert devices.missing_libraries(BUILD, load, tmp_path) == (
        "libcublasLt.so.12",
        "libcufft.so.11",
        "libnvJitLink.so.12",
        "libcusparse.so.12",
    )
    assert devices.missing_libraries(BUILD, lambda name: None, tmp_path) == ()
    newer = BUILD | {"cuda_version": "13.0", "cudnn_version": "10"}
    names = devices.missing_libraries(newer, load, tmp_path)
    assert {"libcudart.so.13", "libcudnn.so.10"} <= set(names)


def test_libraries_are_looked_for_only_where_they_are_the_question(monkeypatch):
    monkeypatch.setattr(devices, "missing_libraries", lambda build: ("libcudnn.so.9",))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(devices, "read_driver", lambda: DRIVER)
    assert devices.find().missing == ("libcudnn.so.9",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = devices.find()
    assert found.missing == () and found.visible == "" and found.driver == DRIVER
    monkeypatch.setattr(devices, "read_driver", lambda: None)
    assert devices.find().missing == ()


def test_tensorflows_gpus_have_the_drivers_facts(monkeypatch):
    physical = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    details = {"device_name": "NVIDIA H200", "compute_capability": (9, 0)}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [physical])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    monkeypatch.setattr(devices, "read_driver", lambda: DRIVER)
    assert devices.find().usable == (H200,)
    monkeypatch.setattr(devices, "read_driver", lambda: None)
    assert devices.find().usable == (Gpu("NVIDIA H200", capability=(9, 0)),)


# What --devices and --gpu_memory_gib do.


@pytest.mark.parametrize(
    "found, text",
    [
        (HIDDEN, "CUDA_VISIBLE_DEVICES= hides them"),
        (LIBRARIES, "cannot load libcudnn.so.9, libcufft.so.11"),
        (NONE, "no NVIDIA driver shows one"),
    ],
    ids=["hidden", "libraries", "none"],
)
def test_a_gpu_that_cannot_be_had_is_refused_with_the_reason(monkeypatch, found, text):
    monkeypatch.setattr(devices, "find", lambda: found)
    line = message(cluster.start, ("GPU:0",))
    assert line.startswith("--devices=GPU:0: ") and text in line


def test_the_memory_of_a_gpu_is_capped(monkeypatch):
    calls = []
    gpus = ["first", "second"]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda chosen, kind: None)
    monkeypatch.setattr(
        tf.config,
        "set_logical_device_configuration",
        lambda gpu, parts: calls.append((gpu, [part.memory_limit for part in parts])),
    )
    assert cluster.start(("GPU:1",), None, 1.5) == ("GPU:1",)
    assert calls == [("second", [1536])]
    cluster.start(("GPU:1",))
    assert len(calls) == 1
