"""What the service counts, as Prometheus reads it at /monitoring/prometheus/metrics."""

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The service's own counters and this process' memory and processor time."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "serving_requests", "Requests that were answered", ("protocol", "method", "code"),
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "serving_request_seconds", "Time from request to answer", ("protocol", "method"),
            registry=self._registry,
        )  # fmt: skip
        self._batch_rows = Histogram(
            "serving_batch_rows", "Rows of each run of the model",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=self._registry,
        )  # fmt: skip
        self._in_flight = Gauge(
            "serving_in_flight_requests", "Requests that have come and have no answer yet",
            ("protocol",), registry=self._registry,
        )  # fmt: skip
        self._queue = Gauge(
            "serving_queue_requests", "Requests that wait for the model", registry=self._registry
        )

    def came(self, protocol: str) -> None:
        """A request has come; `answered` follows."""
        self._in_flight.labels(protocol).inc()

    def answered(self, protocol: str, method: str, code: str, seconds: float) -> None:
        """One request has got its answer, or its error."""
        self._in_flight.labels(protocol).dec()
        self._requests.labels(protocol, method, code).inc()
        self._seconds.labels(protocol, method).observe(seconds)

    def batch(self, rows: int) -> None:
        """The model runs on so many rows."""
        self._batch_rows.observe(rows)

    def queued(self, requests: int) -> None:
        """So many requests wait now."""
        self._queue.set(requests)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return prometheus_client.generate_latest(self._registry)
