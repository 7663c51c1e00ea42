"""OpenTelemetry's variables that decide whether there are traces, and those that are set most often.

Its SDK reads these and others by itself (`OpenTelemetry, environment variables
<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>`_).
docker-compose.yml passes them on.
"""

from typing import Annotated

from handlers.observe.settings import EnvironmentSettings, says


class TraceSettings(EnvironmentSettings, frozen=True, rename=lambda name: f"OTEL_{name.upper()}"):
    """Variables of OpenTelemetry for the direct host's traces, which need the extra ``otel``."""

    exporter_otlp_endpoint: Annotated[
        str,
        says(
            "URL of a collector that takes OTLP. It asks the direct host for traces, which need the extra otel.",
            examples=["http://127.0.0.1:4318"],
        ),
    ] = ""
    exporter_otlp_traces_endpoint: Annotated[
        str, says("The same for traces alone, with its path.", examples=["http://127.0.0.1:4318/v1/traces"])
    ] = ""
    exporter_otlp_protocol: Annotated[
        str,
        says(
            "How the collector is reached: grpc needs opentelemetry-exporter-otlp-proto-grpc beside the extra.",
            examples=["http/protobuf"],
        ),
    ] = ""
    exporter_otlp_traces_protocol: Annotated[str, says("The same for traces alone.", examples=["http/protobuf"])] = ""
    exporter_otlp_headers: Annotated[
        str,
        says(
            "Headers for the collector, such as its key: NAME=VALUE, a comma between two.",
            examples=["x-api-key=of-the-collector"],
        ),
    ] = ""
    traces_exporter: Annotated[
        str, says("otlp, console (into the logs) or none, a comma between two.", examples=["otlp"])
    ] = ""
    traces_sampler: Annotated[
        str, says("Which requests are recorded; unset: all.", examples=["parentbased_traceidratio"])
    ] = ""
    traces_sampler_arg: Annotated[str, says("The share of them, for that sampler.", examples=["0.01"])] = ""
    service_name: Annotated[str, says("Name of the service in its traces; unset: marloop.", examples=["flights"])] = ""
    resource_attributes: Annotated[
        str,
        says(
            "What is said of the service beside its name: NAME=VALUE, a comma between two.",
            examples=["deployment.environment.name=production"],
        ),
    ] = ""
    sdk_disabled: Annotated[str, says("true: no traces, whatever the other variables say.", examples=["true"])] = ""

    @property
    def asked_for(self) -> bool:
        """Whether there shall be traces: an exporter is named, or the endpoint of a collector."""
        if self.sdk_disabled.strip().lower() == "true":
            return False
        exporter = self.traces_exporter.strip().lower()
        endpoint = self.exporter_otlp_traces_endpoint or self.exporter_otlp_endpoint
        return exporter != "none" if exporter else bool(endpoint)

    @property
    def exporters(self) -> list[str]:
        """The names of the exporters' entry points."""
        protocol = self.exporter_otlp_traces_protocol.strip() or self.exporter_otlp_protocol.strip()
        names = (name.strip() for name in (self.traces_exporter or "otlp").split(","))
        return [_OTLP.get(protocol, f"otlp by {protocol}") if name == "otlp" else name for name in names]


_OTLP = {"": "otlp_proto_http", "http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
