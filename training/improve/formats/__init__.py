"""The champion of a model in portable formats, each checked against the archive's program and timed."""
