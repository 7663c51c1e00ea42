"""The HTTP parts of a request: routes, media types, compression, forms, overload."""
