"""Stores at a URL: archives and registry, on S3 or in PostgreSQL, and the copy that a machine has of one."""
