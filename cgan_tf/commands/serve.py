"""Serves an exported editor over gRPC and HTTP, for development.

    cgan serve --model=runs/faces/export/saved_model
        [--rest_port=8501] [--grpc_port=8500] [--model_name=translator]

It stands in for TensorFlow Serving: requests, answers and error codes are the same, so a client
that works here works there. It serves the highest version in the folder, on the CPU; a higher one
that appears there replaces it, and no request is lost. For production use TensorFlow Serving
itself, which takes the same folder:

    docker run -p 8500:8500 -p 8501:8501 -v "$PWD/runs/faces/export/saved_model:/models/translator"
        tensorflow/serving:2.21.0 --model_name=translator --model_base_path=/models/translator

kubernetes.yaml in cgan_tf/export/serving does the same in a cluster. SIGTERM and Ctrl-C finish the
requests in flight; a second signal ends at once. GET /healthz, /readyz and /metrics give the
server's state.
"""

import re

from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand
from cgan_tf.editing import named_models


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string(
        "model", None, "folder of version folders (1/, 2/, ...), one of them, or name of a model"
    )
    flags.DEFINE_string("model_name", "translator", "the model's name in requests")
    flags.DEFINE_string("host", "127.0.0.1", "address to listen on; 0.0.0.0 for all, ::1 for IPv6")
    for name, port in (("rest_port", 8501), ("grpc_port", 8500)):
        flags.DEFINE_integer(
            name, port, "TCP port; 0 for any free one", lower_bound=0, upper_bound=65535
        )
    flags.DEFINE_integer(
        "max_batch_size", 32, "maximum rows of one request, and of one batch", lower_bound=1
    )
    flags.DEFINE_float(
        "batch_timeout_ms",
        0,
        "ms that a request may wait for its batch to fill while the model is free; 0 runs waiting "
        "requests at once",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "max_queue",
        256,
        "maximum number of waiting requests; further ones are refused (UNAVAILABLE, 503)",
        lower_bound=1,
    )
    flags.DEFINE_integer("max_request_mb", 16, "maximum size of one request, MiB", lower_bound=1)
    flags.DEFINE_float(
        "timeout_s",
        30,
        "maximum time for one request, seconds (DEADLINE_EXCEEDED, 504)",
        lower_bound=0.001,
    )
    flags.DEFINE_float(
        "file_system_poll_wait_seconds",
        1,
        "seconds between two looks into the folder for a new version, which then replaces the "
        "served one; 0: never (TensorFlow Serving has the same flag)",
        lower_bound=0,
    )
    flags.DEFINE_string(
        "cors_origin",
        "",
        "origin of the web pages that may send requests, e.g. https://example.org; * for all; by "
        "default none (TensorFlow Serving: --rest_api_enable_cors_support, for all)",
    )
    flags.DEFINE_float(
        "grace_s",
        30,
        "time for requests in flight to finish after SIGTERM, seconds",
        lower_bound=0,
    )


def check_origin(origin: str) -> None:
    """Raises a UserError unless --cors_origin is empty, * or an origin."""
    if not re.fullmatch(r"|\*|https?://[^/\s]+", origin):
        raise UserError(
            f"--cors_origin={origin}: give * or one origin without a path, e.g. https://example.org"
        )


def main() -> int:
    """Runs the command; returns the exit code."""
    options = flags.FLAGS
    cli.require("model", "model_name")
    if not re.fullmatch("[^/:]+", options.model_name):
        raise UserError(f"--model_name={options.model_name}: must not contain / or :")
    check_origin(options.cors_origin)
    quiet.import_tensorflow()
    try:
        from cgan_tf.export.serving import model, named, server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cgan_tf"):
            raise
        raise UserError(
            f"cgan serve: the package {error.name} is missing; install the extra for serving: "
            'pip install "cgan_tf[serve]"'
        ) from None

    place = expand(options.model, "--model")
    installed = named_models.folder_of(place)
    folder, version = (installed, 1) if installed else model.find_version(options.model)
    polled = options.file_system_poll_wait_seconds > 0 and folder not in (place, installed)
    with server.listen("--rest_port", options.host, options.rest_port) as rest_socket:
        # Found out before the model is loaded, which takes seconds.
        server.listen("--grpc_port", options.host, options.grpc_port).close()
        identity, rows = options.model_name, options.max_batch_size
        if installed:
            served = named.NamedServedModel(folder, identity, rows)
        else:
            served = model.ServedModel(folder, identity, version, rows)
        server.run(
            served,
            server.Options(
                host=options.host,
                grpc_port=options.grpc_port,
                max_batch_size=options.max_batch_size,
                batch_timeout_ms=options.batch_timeout_ms,
                max_queue=options.max_queue,
                max_request_mb=options.max_request_mb,
                timeout_s=options.timeout_s,
                grace_s=options.grace_s,
                cors_origin=options.cors_origin,
                versions=folder.parent if polled else None,
                poll_s=options.file_system_poll_wait_seconds,
            ),
            rest_socket,
            say=lambda line: print(line, flush=True),
        )
    return 0
