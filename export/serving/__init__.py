"""A small server that speaks TensorFlow Serving's contract; its command is `export.serve`.

    model          the SavedModel: which version, what its signatures take, one run
    batching       joins concurrent requests into one run
    grpc_service   PredictionService and ModelService on the official stubs
    rest           /v1/models/..., health and metrics by HTTP
    rest_format    its JSON
    metrics        what both count
    server         both ports, from start to graceful stop

Stands in for TensorFlow Serving in development: the requests, the answers and the error codes are
the same, so that a client that works here works there. It serves one version of one model, on the
CPU. For production use the real server; `kubernetes.yaml` here is an example.
"""
