"""What the driver shows of the GPUs, whether TensorFlow can use them, and why not.

The usual case: the driver shows a GPU and TensorFlow does not, because CUDA's libraries are not
installed. `find` asks the driver and TensorFlow; `obstacle` and the lines for the user are
functions of what it has found.
"""

import ctypes
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

VISIBLE = "CUDA_VISIBLE_DEVICES"
# What TensorFlow loads before it uses a GPU: the driver's library, and CUDA's in these versions.
DRIVER_LIBRARY = "libcuda.so.1"
CUDA_LIBRARIES = (
    "libcudart.so.{cuda}",
    "libcublas.so.{cuda}",
    "libcublasLt.so.{cuda}",
    "libcufft.so.11",
    "libcusolver.so.11",
    "libcusparse.so.{cuda}",
    "libcudnn.so.{cudnn}",
)
PROC = Path("/proc/driver/nvidia")
# Compute capabilities that run by PTX in theory, and in practice fail at the first kernels
# (CUDA_ERROR_INVALID_PTX): github.com/tensorflow/tensorflow/issues/89272, 101746 and 111958.
REPORTED_BROKEN = (12,)

Version = tuple[int, ...]


class Gpu(NamedTuple):
    """A GPU as its driver describes it; None is unknown.

    Attributes:
        name: the model.
        memory_gib: its memory.
        free_gib: of that, what no process has taken.
        capability: compute capability, (major, minor).
    """

    name: str
    memory_gib: float | None = None
    free_gib: float | None = None
    capability: Version | None = None


class Driver(NamedTuple):
    """NVIDIA's driver: its version, the newest CUDA that it supports (None: unknown), its GPUs."""

    version: str
    cuda: Version | None
    gpus: tuple[Gpu, ...]


class Findings(NamedTuple):
    """What `find` has found.

    Attributes:
        driver: None where no driver is loaded.
        visible: the value of CUDA_VISIBLE_DEVICES; None if it is not set.
        usable: the GPUs that TensorFlow can use, in its order.
        build: `tf.sysconfig.get_build_info()`.
        missing: libraries that cannot be loaded; not looked for where there is no need.
    """

    driver: Driver | None
    visible: str | None
    usable: tuple[Gpu, ...]
    build: Mapping[str, Any]
    missing: tuple[str, ...] = ()

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs that the driver shows, whether they are hidden or not."""
        return self.driver.gpus if self.driver else ()


class Obstacle(NamedTuple):
    """Why TensorFlow uses no GPU: a clause after "TensorFlow", and what to do about it."""

    reason: str
    remedy: str


def find() -> Findings:
    """Asks the driver and TensorFlow; starts neither CUDA nor TensorFlow's runtime."""
    driver, visible = read_driver(), os.environ.get(VISIBLE)
    build = tf.sysconfig.get_build_info()
    usable = tuple(_tensorflow_gpu(gpu, driver) for gpu in tf.config.list_physical_devices("GPU"))
    found = Findings(driver, visible, usable, build)
    if found.gpus and not usable and not hidden(visible, len(found.gpus)):
        return found._replace(missing=missing_libraries(build))
    return found


def hidden(visible: str | None, count: int) -> bool:
    """Whether this value of CUDA_VISIBLE_DEVICES hides all of `count` GPUs.

    CUDA reads the list up to its first invalid entry; an entry is an index or a name (GPU-..., or
    MIG-... for a part of a GPU).
    """
    if visible is None:
        return False
    first = visible.split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return False
    return not first.isdecimal() or int(first) >= count


def obstacle(found: Findings) -> Obstacle | None:
    """Why TensorFlow can use none of the driver's GPUs; None if it can, or if there are none."""
    if found.usable or not found.gpus:
        return None
    if hidden(found.visible, len(found.gpus)):
        return hidden_by_variable(found.visible)
    version = tf.__version__
    if not found.build.get("is_cuda_build"):
        return Obstacle(
            f"{version} is a build without CUDA",
            f'run pip install "cgan_tf[gpu]", or "tensorflow[and-cuda]=={version}"',
        )
    if DRIVER_LIBRARY in found.missing:
        return Obstacle(
            f"cannot load {DRIVER_LIBRARY}, the driver's library",
            "start the container with its GPUs (docker run --gpus all), or install the driver",
        )
    if found.missing:
        return Obstacle(
            f"cannot load {', '.join(found.missing)}",
            f'run pip install "cgan_tf[gpu]", or "tensorflow[and-cuda]=={version}"',
        )
    needed = cuda_version(found.build)
    if found.driver.cuda and needed and found.driver.cuda[0] < needed[0]:
        return Obstacle(
            f"is built for CUDA {dotted(needed)}, and the driver {found.driver.version} supports "
            f"CUDA up to {dotted(found.driver.cuda)}",
            "update the driver",
        )
    return Obstacle(
        "finds it not usable for another reason",
        'read its messages: python -c "import tensorflow as tf; '
        "tf.config.list_physical_devices('GPU')\"",
    )


def hidden_by_variable(visible: str | None) -> Obstacle:
    """The obstacle of a CUDA_VISIBLE_DEVICES that hides all GPUs."""
    return Obstacle(
        f"sees none, because {VISIBLE}={visible} hides them",
        f"unset {VISIBLE}, or set it to 0 for the first GPU",
    )


def refusal(found: Findings) -> str:
    """Why a --devices=GPU:... cannot be had where TensorFlow uses no GPU, with the remedy."""
    if hidden(found.visible, max(1, len(found.gpus))):
        problem = hidden_by_variable(found.visible)
    else:
        problem = obstacle(found)
    if problem is None:
        return "this machine has no GPU that TensorFlow can use (no NVIDIA driver shows one)"
    names = f" of this machine ({names_of(found.gpus)})" if found.gpus else ""
    return f"TensorFlow can use no GPU{names}: it {problem.reason}; {problem.remedy}"


def kernels(build: Mapping[str, Any], capability: Version) -> str | None:
    """How this build of TensorFlow runs on a compute capability.

    Returns:
        "compiled": it has machine code (of the same major version and no later minor one); "ptx":
        the driver compiles its PTX when a kernel is first used; None: it has neither.
    """
    parts = [
        (kind, (int(digits[:-1]), int(digits[-1])))
        for kind, _, digits in (
            text.partition("_") for text in build.get("cuda_compute_capabilities", ())
        )
        if digits.isdecimal()
    ]
    if any(k == "sm" and v[0] == capability[0] and v <= capability for k, v in parts):
        return "compiled"
    return "ptx" if any(k == "compute" and v <= capability for k, v in parts) else None


def kernel_warning(build: Mapping[str, Any], gpu: Gpu) -> str | None:
    """One line if TensorFlow will probably fail on a GPU that it lists, else None."""
    if gpu.capability is None:
        return None
    version = f"TensorFlow {tf.__version__}"
    subject = f"{gpu.name} (compute capability {dotted(gpu.capability)})"
    if gpu.capability[0] in REPORTED_BROKEN:
        return (
            f"{subject}: {version} is reported to fail on it; use NVIDIA's container of "
            "TensorFlow, or --devices=CPU:0"
        )
    if "cuda_compute_capabilities" in build and kernels(build, gpu.capability) is None:
        return f"{subject}: {version} has no kernels for it; use --devices=CPU:0"
    return None


# Lines for the user.


def summary(
    found: Findings, names: Sequence[str], policy: str, requested: bool = False
) -> list[str]:
    """What a training prints about its devices: one line, and a note for each problem.

    Args:
        found: see `find`.
        names: the devices of the training, e.g. ("GPU:0",).
        policy: its precision.
        requested: the user has named the devices, and knows of the others.
    """
    indices = [int(name.partition(":")[2]) for name in names if name.startswith("GPU:")]
    if not indices:
        lines = [f"device: CPU ({cores()} cores), {policy}"]
        problem = obstacle(found)
        if problem and not requested:
            lines.append(
                f"note: a GPU ({names_of(found.gpus)}) is present, but TensorFlow "
                f"{problem.reason}; training on the CPU; see cgan check"
            )
        return lines
    gpus = [found.usable[index] for index in indices]
    lines = [f"device: {names_of(gpus)}{_facts(gpus[0])}, {policy}"]
    return lines + [
        f"note: {warning}" for gpu in gpus if (warning := kernel_warning(found.build, gpu))
    ]


def describe(found: Findings) -> list[str]:
    """What `cgan check` prints about the GPUs: a line for each, and for what is wrong."""
    if not found.gpus and not found.usable:
        lines = ["none (no NVIDIA driver shows one)"]
        if hidden(found.visible, 1):
            lines.append(f"{VISIBLE}={found.visible} would hide any; unset it to use one")
        return lines
    driver = f"driver {found.driver.version}" if found.driver else "driver unknown"
    if found.driver and found.driver.cuda:
        driver += f" (CUDA {dotted(found.driver.cuda)})"
    gpus = found.usable or found.gpus
    lines = [f"{gpu.name}{_facts(gpu)}, {driver}" for gpu in gpus]
    problem = obstacle(found)
    if problem:
        return [*lines, f"not used: TensorFlow {problem.reason}", f"remedy: {problem.remedy}"]
    lines += _unused(found)
    for gpu in gpus:
        warning = kernel_warning(found.build, gpu)
        how = gpu.capability and kernels(found.build, gpu.capability)
        if warning:
            lines.append(f"warning: {warning}")
        elif how == "ptx":
            lines.append(
                f"used; kernels for {dotted(gpu.capability)} are compiled when first used, which "
                "takes some seconds"
            )
        else:
            lines.append("used by TensorFlow")
    return lines


def _unused(found: Findings) -> list[str]:
    hidden_count = len(found.gpus) - len(found.usable)
    if hidden_count <= 0 or found.visible is None:
        return []
    return [f"{hidden_count} more hidden by {VISIBLE}={found.visible}"]


def names_of(gpus: Sequence[Gpu]) -> str:
    """`2 x NVIDIA H100`, or the names if they differ."""
    names = [gpu.name for gpu in gpus]
    if len(names) > 1 and len(set(names)) == 1:
        return f"{len(names)} x {names[0]}"
    return ", ".join(names)


def _facts(gpu: Gpu) -> str:
    parts = []
    if gpu.memory_gib is not None:
        free = "" if gpu.free_gib is None else f", {gpu.free_gib:.1f} free"
        parts.append(f"{gpu.memory_gib:.1f} GiB{free}")
    if gpu.capability is not None:
        parts.append(f"compute capability {dotted(gpu.capability)}")
    return f" ({', '.join(parts)})" if parts else ""


def dotted(version: Version) -> str:
    """(9, 0) as `9.0`."""
    return ".".join(map(str, version))


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Probes.


def read_driver(load: Callable[[str], Any] = ctypes.CDLL, proc: Path = PROC) -> Driver | None:
    """The driver and its GPUs by NVML, the driver's library; without it by `/proc`.

    Args:
        load: opens a library, or raises OSError.
        proc: the driver's folder in /proc; it has names only.
    """
    try:
        nvml = load("libnvidia-ml.so.1")
    except OSError:
        return _read_proc(proc)
    if nvml.nvmlInit_v2():
        return _read_proc(proc)
    try:
        return _read_nvml(nvml)
    finally:
        nvml.nvmlShutdown()


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]  # bytes


def _read_nvml(nvml: Any) -> Driver:
    """Each function returns 0, or an error for what a device does not tell."""
    text, number = ctypes.create_string_buffer(96), ctypes.c_int()
    version = "unknown"
    if not nvml.nvmlSystemGetDriverVersion(text, ctypes.c_uint(len(text))):
        version = text.value.decode(errors="replace")
    cuda = None
    if not nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(number)):
        cuda = (number.value // 1000, number.value % 1000 // 10)  # 12040 is 12.4
    count, gpus = ctypes.c_uint(), []
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        count.value = 0
    for index in range(count.value):
        device = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)):
            continue
        gpu = Gpu("unknown GPU")
        if not nvml.nvmlDeviceGetName(device, text, ctypes.c_uint(len(text))):
            gpu = gpu._replace(name=text.value.decode(errors="replace"))
        memory = _Memory()
        if not nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)):
            gpu = gpu._replace(memory_gib=memory.total / 2**30, free_gib=memory.free / 2**30)
        major, minor = ctypes.c_int(), ctypes.c_int()
        if not nvml.nvmlDeviceGetCudaComputeCapability(
            device, ctypes.byref(major), ctypes.byref(minor)
        ):
            gpu = gpu._replace(capability=(major.value, minor.value))
        gpus.append(gpu)
    return Driver(version, cuda, tuple(gpus))


def _read_proc(proc: Path) -> Driver | None:
    try:
        line = (proc / "version").read_text().partition("\n")[0]
        files = sorted((proc / "gpus").glob("*/information"))
        models = [re.search(r"^Model:\s*(.+?)\s*$", file.read_text(), re.M) for file in files]
    except OSError:
        return None
    version = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", line)
    gpus = tuple(Gpu(model[1] if model else "unknown GPU") for model in models)
    return Driver(version[1] if version else "unknown", None, gpus)


def _tensorflow_gpu(device: Any, driver: Driver | None) -> Gpu:
    """A GPU that TensorFlow lists, with the driver's facts about one of that name."""
    details = tf.config.experimental.get_device_details(device)
    name, capability = details.get("device_name", device.name), details.get("compute_capability")
    same = [gpu for gpu in (driver.gpus if driver else ()) if gpu.name == name]
    return (same[0] if same else Gpu(name))._replace(capability=capability)


def cuda_version(build: Mapping[str, Any]) -> Version | None:
    """The CUDA version that TensorFlow is built for, (12, 5, 1); None if it does not tell."""
    numbers = re.findall(r"\d+", str(build.get("cuda_version", "")))
    return tuple(map(int, numbers)) or None


def missing_libraries(
    build: Mapping[str, Any],
    load: Callable[[str], Any] = ctypes.CDLL,
    packages: Path | None = None,
) -> tuple[str, ...]:
    """The libraries that TensorFlow needs for a GPU and that cannot be loaded.

    TensorFlow finds each on the system's search path, or in the folders nvidia/*/lib of the pip
    packages next to its own.

    Args:
        build: for the versions.
        load: opens a library by its name or path, or raises OSError.
        packages: the folder with tensorflow/ and nvidia/.
    """
    cuda = cuda_version(build)
    versions = {"cuda": cuda[0] if cuda else 12, "cudnn": build.get("cudnn_version", "9")}
    packages = packages or Path(tf.__file__).parents[1]
    names = [DRIVER_LIBRARY, *(name.format(**versions) for name in CUDA_LIBRARIES)]
    missing: list[str] = []
    for name in names:
        reason = None
        for place in (name, *sorted(packages.glob(f"nvidia/*/lib/{name}"))):
            try:
                load(str(place))
                break
            except OSError as error:
                reason = error
        else:
            # A library that is there may need another that is not.
            found = re.match(r"(\S+\.so[.\d]*): cannot open shared object", str(reason))
            missing.append(found[1] if found else name)
    return tuple(dict.fromkeys(missing))
