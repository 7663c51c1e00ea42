"""What stands around a request in HTTP: routes, media types, compression, forms, overload."""
