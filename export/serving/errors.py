"""The service's only exception: a gRPC code, its HTTP status and a one-line message."""

import grpc

_MAX_MESSAGE = 300  # characters; a gRPC status must fit into a header
_CODES = {code.value[0]: code for code in grpc.StatusCode}

# TensorFlow Serving's own table (model_servers/http_server.cc).
_HTTP = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}


class RequestError(Exception):
    """A request that gets an error instead of an answer; the server keeps running.

    Args:
        code: the gRPC status.
        message: what is wrong and how to fix it; shortened to one line of at most 300 characters.
        http_status: if HTTP has a more specific status, such as 413.
    """

    def __init__(self, code: grpc.StatusCode, message: str, http_status: int | None = None) -> None:
        self.code = code
        self.http_status = http_status or _HTTP.get(code, 500)
        line = " ".join(message.split())
        super().__init__(line if len(line) <= _MAX_MESSAGE else line[: _MAX_MESSAGE - 3] + "...")


def invalid(message: str) -> RequestError:
    """The client's mistake: INVALID_ARGUMENT, HTTP 400."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def from_tensorflow(number: int, message: str) -> RequestError:
    """An error raised by the graph: TensorFlow's numeric codes are gRPC's."""
    return RequestError(_CODES.get(number, grpc.StatusCode.UNKNOWN), message)
