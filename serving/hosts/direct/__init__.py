"""The direct host: archives served by our own ASGI application, without Java and without torch."""
