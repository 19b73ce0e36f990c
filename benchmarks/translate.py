"""Latency, memory and size of every form of the editor, for one photo at a time.

    pip install -e ".[benchmarks]"
    cgan export --run_dir=RUN --formats=saved_model,tflite,page \
        --quantize=none,float16,dynamic,weight_int8,int8 --output=EXPORT
    python -m benchmarks.translate --run_dir=RUN --export=EXPORT --output=translate.json

Times `translate` in Keras (as a compiled function), the SavedModel, each .tflite file with 1, 2
and 4 threads, and ONNX Runtime, on the graph of the float32 .tflite file and on one with the
generator's original transposed convolutions. Each of them runs in its own process, which waits
while another is timed; they take turns, and a ratio is the median over the rounds of the ratio of
two medians of the same round. Memory is the peak of the process minus its memory before the model
was opened; ONNX Runtime's is not given, since its process also converts the model. The device page,
if the export has one, is timed in headless Chromium: a slider move, from the event to the drawn
image.
"""

import json
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from absl import flags

from benchmarks import subprocesses
from benchmarks.memory import peak_mib
from cgan_tf.core import cli, quiet
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json

THREADS = (1, 2, 4)
VARIANTS = ("float32", "float16", "dynamic", "weight_int8", "int8")
# Maximum ratio of two median times, each with one thread.
LIMITS = {"tflite_float32_1 / onnx_1": 1.0, "tflite_dynamic_1 / tflite_float32_1": 0.5}
PAGE_LIMITS = {64: 20.0, 128: 60.0}  # maximum ms per slider move, by resolution

FLAGS = flags.FLAGS
flags.DEFINE_string("run_dir", None, "Exported run folder.")
flags.DEFINE_string("export", None, "Folder of its export; default: RUN_DIR/export.")
flags.DEFINE_integer("rounds", 7, "Turns of each form.", lower_bound=1)
flags.DEFINE_float("seconds", 1.0, "Approximate length of a turn, seconds.", lower_bound=0.01)
flags.DEFINE_integer("moves", 200, "Slider moves of the page.", lower_bound=1)
flags.DEFINE_string("output", "runs/translate.json", "JSON file of the figures.")


# ---- subjects: each returns a function that edits one photo, in its own process ------------------


def keras(run_dir: str, export: str) -> Callable[[], None]:
    """The run folder's models, as one compiled function with the signature's shapes."""
    import tensorflow as tf

    from cgan_tf.editing import description
    from cgan_tf.editing.network import EditingNetwork
    from cgan_tf.export import saved_model

    network = EditingNetwork.from_run(run_dir)
    function, specs = saved_model.endpoints(network, 1, description.SQUARE_CROP)["translate"]
    compiled = tf.function(function, input_signature=specs, autograph=False)
    inputs = [tf.constant(value) for value in _inputs([spec.shape for spec in specs])]
    return lambda: compiled(*inputs)["image"].numpy()


def saved_model(run_dir: str, export: str) -> Callable[[], None]:
    """The signature of the SavedModel."""
    from cgan_tf.editing import backends

    backend = backends.open_backend(str(Path(export, "saved_model")))
    shapes = (1, backend.resolution, backend.resolution, 3), (1, len(backend.attributes))
    image, strengths = _inputs(shapes)
    return lambda: backend.translate(image, strengths)


def tflite(run_dir: str, export: str, variant: str, threads: int) -> Callable[[], None]:
    """The signature of a .tflite file."""
    from ai_edge_litert.interpreter import Interpreter

    path = Path(export, f"translator_{variant}.tflite")
    with quiet.native_stderr_held():
        runner = Interpreter(str(path), num_threads=threads).get_signature_runner("translate")
    details = runner.get_input_details()
    values = _inputs([details[name]["shape"] for name in ("image", "strengths")])
    inputs = dict(zip(("image", "strengths"), values, strict=True))
    return lambda: runner(**inputs)["image"]


def onnx(run_dir: str, export: str, threads: int, transposed: bool = False) -> Callable[[], None]:
    """ONNX Runtime on the graph of the float32 file, or on one without the form for devices."""
    import onnxruntime

    content = _plain_tflite(run_dir) if transposed else _exported(export)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        _to_onnx(content), options, providers=["CPUExecutionProvider"]
    )
    entries = session.get_inputs()
    feeds = dict(zip([e.name for e in entries], _inputs([e.shape for e in entries]), strict=True))
    return lambda: session.run(None, feeds)


def _exported(export: str) -> bytes:
    return Path(export, "translator_float32.tflite").read_bytes()


def _plain_tflite(run_dir: str) -> bytes:
    """A float32 .tflite file without the form for devices."""
    import tempfile

    from cgan_tf.editing.network import EditingNetwork
    from cgan_tf.export import saved_model, tflite

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        saved_model.write(
            EditingNetwork.from_run(run_dir), path, saved_model.DEVICE_SIGNATURES, batch=1
        )
        return tflite.convert(path, "none", "{}")


def _to_onnx(content: bytes) -> bytes:
    """Converts the signature `translate` of a .tflite file, made the file's only graph."""
    import tempfile

    import tf2onnx
    from ai_edge_litert import schema_py_generated as schema

    from cgan_tf.export import tflite

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    index = next(
        entry.subgraphIndex for entry in model.signatureDefs if entry.signatureKey == b"translate"
    )
    model.subgraphs, model.signatureDefs = [model.subgraphs[index]], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "translate.tflite")
        path.write_bytes(tflite.pack(model))
        with quiet.native_stderr_held(), warnings.catch_warnings():
            # Raised by the converter: TensorFlow deprecates its interpreter.
            warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
            converted, _ = tf2onnx.convert.from_tflite(str(path), opset=17)
    return converted.SerializeToString()


def _inputs(shapes) -> list:
    """Random images or strengths in [-1, 1] of these shapes."""
    import numpy as np

    draw = np.random.default_rng(0)
    return [draw.uniform(-1, 1, tuple(shape)).astype(np.float32) for shape in shapes]


def subjects(export: Path) -> dict[str, tuple[str, dict]]:
    """Name, function and options of everything that can be timed in an export."""
    found = {"keras": ("keras", {})}
    if (export / "saved_model").exists():
        found["saved_model"] = ("saved_model", {})
    for variant in VARIANTS:
        if (export / f"translator_{variant}.tflite").exists():
            for threads in THREADS:
                options = {"variant": variant, "threads": threads}
                found[f"tflite_{variant}_{threads}"] = ("tflite", options)
    if (export / "translator_float32.tflite").exists():
        for threads in THREADS:
            found[f"onnx_{threads}"] = ("onnx", {"threads": threads})
        found["onnx_transposed_1"] = ("onnx", {"threads": 1, "transposed": True})
    return found


def size(export: Path, name: str) -> int | None:
    """Size of a subject's file or folder in bytes, None if it has none of its own."""
    kind, _, rest = name.partition("_")
    if kind == "tflite":
        return (export / f"translator_{rest.rpartition('_')[0]}.tflite").stat().st_size
    if name == "saved_model":
        files = (export / "saved_model").rglob("*")
        return sum(path.stat().st_size for path in files if path.is_file())
    return None


# ---- timing --------------------------------------------------------------------------------------


def prepare(maker: str, arguments: tuple, options: dict) -> subprocesses.Timed:
    """A subject's call, warmed up, and the memory it took; runs in the subject's process."""
    quiet.import_tensorflow()
    before = peak_mib()
    call = globals()[maker](*arguments, **options)
    call(), call()
    return subprocesses.Timed(call, {"peak_mib": peak_mib() - before})


def _export() -> Path:
    return Path(FLAGS.export or Path(FLAGS.run_dir, "export"))


def measure() -> tuple[dict[str, list[list[float]]], dict[str, dict]]:
    """Seconds by subject, turn and call, and facts about each subject."""
    running: dict[str, subprocesses.Subject] = {}
    facts: dict[str, dict] = {}
    arguments = (FLAGS.run_dir, str(_export()))
    try:
        for name, (maker, options) in subjects(_export()).items():
            subject = subprocesses.Subject(
                prepare, (maker, arguments, options), FLAGS.seconds, least=3
            )
            facts[name] = {"failure": subject.failure, "bytes": size(_export(), name)}
            running[name] = subject
            if subject.failure is None and maker != "onnx":
                facts[name] |= subject.facts
        timed = {name: s for name, s in running.items() if not s.failure}
        turns = subprocesses.take_turns(timed, FLAGS.rounds)
    finally:
        for subject in running.values():
            subject.close()
    return turns, facts


def ratio(turns: dict, name: str, other: str) -> float | None:
    """Median over rounds of the ratio of two subjects' medians; None if one was not timed."""
    if name not in turns or other not in turns:
        return None
    pairs = zip(turns[name], turns[other], strict=True)
    return statistics.median(statistics.median(a) / statistics.median(b) for a, b in pairs)


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile, ms."""
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return {"median_ms": 1e3 * statistics.median(ordered), "p95_ms": 1e3 * p95}


def time_page() -> dict[str, float] | None:
    """Time of a slider move in the page, ms; None if the export has no page."""
    folder = _export() / "page"
    if not folder.exists():
        return None
    from benchmarks import browser

    moves = browser.time_page(folder, FLAGS.moves)
    return quantiles([move / 1e3 for move in moves])


def table(turns: dict, facts: dict) -> list[str]:
    """The lines of the report; adds the times to `facts`."""
    lines = [f"{'':24}{'median ms':>11}{'p95 ms':>9}{'memory MiB':>12}{'MB':>8}"]
    for name, fact in facts.items():
        if fact["failure"]:
            lines.append(f"{name:24}{fact['failure']}")
            continue
        fact |= quantiles([second for turn in turns[name] for second in turn])
        memory = f"{fact['peak_mib']:.0f}" if "peak_mib" in fact else ""
        file = f"{fact['bytes'] / 1e6:.2f}" if fact["bytes"] else ""
        times = f"{fact['median_ms']:11.2f}{fact['p95_ms']:9.2f}"
        lines.append(f"{name:24}{times}{memory:>12}{file:>8}")
    return lines


def main() -> None:
    cli.require("run_dir")
    if not (_export() / "report.json").exists():
        raise UserError(f"--export={_export()}: contains no export; create one with cgan export")
    turns, facts = measure()
    print("\n".join(table(turns, facts)), flush=True)
    missed = []
    ratios = {name: ratio(turns, *name.split(" / ")) for name in LIMITS}
    for name, value in ratios.items():
        if value is not None:
            met = value <= LIMITS[name]
            print(f"{name}: {value:.3f} (limit {LIMITS[name]:g}: {'met' if met else 'MISSED'})")
            missed += [] if met else [name]
    page = time_page()
    if page:
        resolution = json.loads((_export() / "model.json").read_text())["resolution"]
        limit = PAGE_LIMITS.get(resolution)
        met = limit is None or page["median_ms"] <= limit
        result = f" (limit {limit:g}: {'met' if met else 'MISSED'})" if limit else ""
        print(
            f"page, a slider move at {resolution} px: {page['median_ms']:.1f} ms, "
            f"p95 {page['p95_ms']:.1f} ms{result}"
        )
        missed += [] if met else ["page"]
    write_json(
        Path(FLAGS.output), {"subjects": facts, "ratios": ratios, "page": page, "limits": LIMITS}
    )
    print(f"written: {FLAGS.output}")
    if missed:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
