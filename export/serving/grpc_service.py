"""TensorFlow Serving's gRPC services, on its official stubs.

PredictionService: Predict and GetModelMetadata. ModelService: GetModelStatus. Calls that need
another kind of model, or would change what is served, are answered with UNIMPLEMENTED.
"""

import functools
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from cgan_tf.export.serving.engine import Engine
from cgan_tf.export.serving.errors import RequestError, invalid
from cgan_tf.export.serving.model import ServedModel, Signature

_METADATA = "signature_def"  # the only metadata field


def _call(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Counts the calls of a servicer's method, and turns its exceptions into gRPC errors."""

    @functools.wraps(method)
    async def call(self, request, context):
        start = time.perf_counter()
        metrics = self._engine.metrics
        metrics.received("grpc")
        code, details = grpc.StatusCode.CANCELLED, ""  # unless it finishes
        try:
            if request is None:
                raise RequestError(
                    grpc.StatusCode.INTERNAL, "the request is damaged: not a message of this call"
                )
            answer = await method(self, request, context)
            code = grpc.StatusCode.OK
        except RequestError as error:
            code, details = error.code, str(error)
        except Exception:
            logging.exception("%s failed", method.__name__)
            code, details = grpc.StatusCode.INTERNAL, "internal error; see the server's log"
        finally:
            seconds = time.perf_counter() - start
            metrics.answered("grpc", method.__name__, code.name, seconds)
        if code != grpc.StatusCode.OK:
            await context.abort(code, details)
        return answer

    return call


def _unimplemented(name: str, remedy: str) -> Callable[..., Awaitable[Any]]:
    async def method(self, request, context):
        raise RequestError(grpc.StatusCode.UNIMPLEMENTED, f"{name} is not served here; {remedy}")

    method.__name__ = name
    return _call(method)


class DamagedMessages(grpc.aio.ServerInterceptor):
    """Turns requests that are no messages into None, which `_call` answers.

    gRPC would log a traceback for each of them.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        if handler is None:  # no such method
            return None
        parse = handler.request_deserializer

        def parse_or_none(content: bytes) -> message.Message | None:
            try:
                return parse(content)
            except message.DecodeError:
                return None

        return handler._replace(request_deserializer=parse_or_none)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Runs the model and describes its signatures."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @_call
    async def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        model = self._engine.model
        _check_spec(model, request.model_spec)
        signature = model.signature(
            request.model_spec.signature_name, grpc.StatusCode.FAILED_PRECONDITION
        )
        names = _wanted_outputs(signature, request.output_filter)
        signature.check_names(request.inputs)
        inputs = {
            name: to_array(signature, name, proto, self._engine.max_bytes)
            for name, proto in request.inputs.items()
        }
        timeout_s, left = self._engine.timeout_s, context.time_remaining()
        if left is not None:
            timeout_s = min(timeout_s, left)
        outputs = await self._engine.batcher.predict(signature, inputs, timeout_s)
        response = predict_pb2.PredictResponse(model_spec=_spec(model, signature.name))
        for name in names:
            response.outputs[name].CopyFrom(
                tf.make_tensor_proto(outputs[name], signature.outputs[name].dtype)
            )
        return response

    @_call
    async def GetModelMetadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.aio.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        model = self._engine.model
        _check_spec(model, request.model_spec)
        return metadata(model, list(request.metadata_field))

    Classify = _unimplemented("Classify", "call Predict with the signature attributes")
    Regress = _unimplemented("Regress", "call Predict")
    MultiInference = _unimplemented("MultiInference", "call Predict once for each signature")


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Gives the state of the model's versions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @_call
    async def GetModelStatus(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.aio.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        return status(self._engine, spec.name, version, spec.version_label)

    HandleReloadConfigRequest = _unimplemented(
        "HandleReloadConfigRequest",
        "add a version to the model's folder, or restart the server with another --model",
    )


def to_array(
    signature: Signature, name: str, proto: tensor_pb2.TensorProto, max_bytes: int
) -> np.ndarray:
    """The array of an input's tensor, whose claimed size is checked before memory is allocated.

    Raises:
        RequestError: dtype or shape differ from the signature's, the tensor is larger than
            `max_bytes`, or its values do not fill its shape.
    """
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    try:
        dtype = tf.as_dtype(proto.dtype)
    except TypeError:
        raise invalid(f"{signature.name}: {name} has an unknown dtype") from None
    if proto.tensor_shape.unknown_rank:
        raise invalid(f"{signature.name}: {name} has no shape")
    signature.check_tensor(name, dtype, shape)
    if math.prod(shape) * dtype.size > max_bytes:
        raise invalid(f"{signature.name}: {name} of shape {shape} is too large")
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError):
        raise invalid(
            f"{signature.name}: the values of {name} do not make a tensor of shape {shape}"
        ) from None


def status(
    engine: Engine, name: str, version: int | None, label: str | None
) -> get_model_status_pb2.GetModelStatusResponse:
    """The states of all versions, or of one, the highest number first.

    Args:
        engine: knows the served version, and those that are being loaded or could not be.
        name, version, label: as in `ServedModel.check_spec`.

    Raises:
        RequestError: there is no such model or version.
    """
    model = engine.model
    model.check_spec(name, None if version in engine.others else version, label)
    states = engine.others | {
        model.version: version_status(
            model.version, get_model_status_pb2.ModelVersionStatus.AVAILABLE
        )
    }
    chosen = sorted(states, reverse=True) if version is None else [version]
    return get_model_status_pb2.GetModelStatusResponse(
        model_version_status=[states[one] for one in chosen]
    )


def version_status(
    version: int, state: int, error: str = ""
) -> get_model_status_pb2.ModelVersionStatus:
    """The state of one version.

    Args:
        version: its number.
        state: such as LOADING.
        error: why it could not be loaded.
    """
    result = get_model_status_pb2.ModelVersionStatus(version=version, state=state)
    # 0 is OK; set explicitly, so that it appears in the JSON too.
    result.status.error_code = grpc.StatusCode.UNKNOWN.value[0] if error else 0
    result.status.error_message = error
    return result


def metadata(
    model: ServedModel, fields: list[str]
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The model's signatures, as in its file.

    Raises:
        RequestError: a field other than `signature_def`.
    """
    if fields != [_METADATA]:
        raise invalid(f"metadata_field must be {_METADATA!r}, not {', '.join(fields) or 'nothing'}")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in model.signature_defs.items():
        signatures.signature_def[name].CopyFrom(definition)
    response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=_spec(model, ""))
    response.metadata[_METADATA].Pack(signatures)
    return response


def _spec(model: ServedModel, signature: str) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=model.name, signature_name=signature)
    spec.version.value = model.version
    return spec


def _check_spec(model: ServedModel, spec: model_pb2.ModelSpec) -> None:
    version = spec.version.value if spec.HasField("version") else None
    model.check_spec(spec.name, version, spec.version_label or None)


def _wanted_outputs(signature: Signature, names: Any) -> list[str]:
    """The outputs named in a request's filter, or all of them."""
    unknown = sorted(set(names) - signature.outputs.keys())
    if unknown or len(set(names)) < len(names):
        raise invalid(
            f"{signature.name}: output_filter must name each output once, of "
            f"{', '.join(signature.outputs)}; not {', '.join(names)}"
        )
    return list(names) or list(signature.outputs)
