"""A small server with TensorFlow Serving's interface, for development; `cgan serve` starts it.

    model          the SavedModel: which version, what its signatures take, running them
    batching       joins concurrent requests into one batch
    engine         what both protocols share
    grpc_service   PredictionService and ModelService on the official stubs
    rest           /v1/models/..., health and metrics over HTTP
    rest_format    its JSON
    errors         gRPC codes and their HTTP status
    metrics        the Prometheus counters
    reloading      a new version in the model's folder replaces the served one
    server         both ports, from start to graceful stop

Requests, answers and error codes are TensorFlow Serving's, so that a client that works here works
there. It serves one version of one model, the highest in its folder, on the CPU. For production use
TensorFlow Serving itself; `kubernetes.yaml` here is an example.

Nothing here knows what an image or an attribute is: any SavedModel can be served. What is specific
to the editor belongs in `export`, command-line flags in `cgan_tf.commands.serve`.
"""
