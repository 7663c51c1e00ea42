"""The page about a version of a model: its metrics, their intervals, and its mistakes."""
