"""The Open Inference Protocol over gRPC, and gRPC's health protocol, on the direct host."""
