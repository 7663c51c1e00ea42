"""A handler that does nothing: what TorchServe itself takes for a request. Runs inside a worker."""


def handle(data, context):  # type: ignore[no-untyped-def]
    """Answer each request of a batch with the same bytes."""
    return None if data is None else [b'{"prediction":0}'] * len(data)
