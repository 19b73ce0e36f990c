"""The service's counters, which Prometheus reads at /monitoring/prometheus/metrics."""

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The service's counters, and this process's memory and CPU time."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "serving_requests",
            "Answered requests",
            ("protocol", "method", "code"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "serving_request_seconds",
            "Time from request to answer",
            ("protocol", "method"),
            registry=self._registry,
        )
        self._batch_rows = Histogram(
            "serving_batch_rows",
            "Rows of each batch",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=self._registry,
        )
        self._in_flight = Gauge(
            "serving_in_flight_requests",
            "Received requests without an answer yet",
            ("protocol",),
            registry=self._registry,
        )
        self._queue = Gauge(
            "serving_queue_requests", "Requests waiting for the model", registry=self._registry
        )

        self._version = Gauge(
            "serving_model_version", "Number of the served version", registry=self._registry
        )

    def version(self, number: int) -> None:
        """This version is served from now on."""
        self._version.set(number)

    def received(self, protocol: str) -> None:
        """A request has arrived; `answered` follows."""
        self._in_flight.labels(protocol).inc()

    def answered(self, protocol: str, method: str, code: str, seconds: float) -> None:
        """A request has been answered, or refused with an error."""
        self._in_flight.labels(protocol).dec()
        self._requests.labels(protocol, method, code).inc()
        self._seconds.labels(protocol, method).observe(seconds)

    def batch(self, rows: int) -> None:
        """The model runs on a batch of this many rows."""
        self._batch_rows.observe(rows)

    def queue_length(self, requests: int) -> None:
        """This many requests are waiting now."""
        self._queue.set(requests)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return prometheus_client.generate_latest(self._registry)
