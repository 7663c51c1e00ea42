"""The champion of a model in portable formats, each checked against the archive's program and timed."""

from training.improve.formats.result import markdown

__all__ = ["markdown"]
