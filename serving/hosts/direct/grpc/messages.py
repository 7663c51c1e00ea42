"""The messages of ``inference.GRPCInferenceService`` and ``grpc.health.v1.Health``, as protobuf classes.

Fields and numbers are those of the public interfaces. Nested messages and maps stand as messages of their own, which
makes no difference on the wire; so nothing has to be compiled.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# A message's fields in order of their numbers: a type and a name, with * behind the type of a repeated one.
_TENSOR = "string name, string datatype, int64* shape"
_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready",
    "ModelReadyRequest": "string name, string version",
    "ModelReadyResponse": "bool ready",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "string name, string version, string* extensions",
    "ModelMetadataRequest": "string name, string version",
    "TensorMetadata": _TENSOR,
    "ModelMetadataResponse": "string name, string* versions, string platform, TensorMetadata* inputs, "
    "TensorMetadata* outputs",
    "InferParameter": "bool bool_param, int64 int64_param, string string_param, double double_param, "
    "uint64 uint64_param",
    "Parameter": "string key, InferParameter value",
    "InferTensorContents": "bool* bool_contents, int32* int_contents, int64* int64_contents, uint32* uint_contents, "
    "uint64* uint64_contents, float* fp32_contents, double* fp64_contents, bytes* bytes_contents",
    "InferTensor": f"{_TENSOR}, Parameter* parameters, InferTensorContents contents",
    "RequestedOutput": "string name, Parameter* parameters",
    "ModelInferRequest": "string model_name, string model_version, string id, Parameter* parameters, "
    "InferTensor* inputs, RequestedOutput* outputs, bytes* raw_input_contents",
    "ModelInferResponse": "string model_name, string model_version, string id, Parameter* parameters, "
    "InferTensor* outputs, bytes* raw_output_contents",
    "HealthCheckRequest": "string service",
    "HealthCheckResponse": "int32 status",  # an enum on the wire
}
_ONE_OF = "InferParameter"  # of whose fields one is set


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="marloop_inference.proto", package="marloop", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name == _ONE_OF:
            message.oneof_decl.add(name="value")
        for number, text in enumerate(filter(None, fields.split(", ")), start=1):
            kind, _, field_name = text.partition(" ")
            field = message.field.add(name=field_name, number=number)
            field.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
            kind = kind.removesuffix("*")
            if kind in _MESSAGES:
                field.type, field.type_name = field.TYPE_MESSAGE, f".marloop.{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
            if name == _ONE_OF:
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"marloop.{name}")) for name in _MESSAGES}


CLASSES = _build()
