"""Rows of an optimization."""

from typing import Any

from training.improve.optimize.result import VariantRow


def variant_row(name: str, **figures: Any) -> VariantRow:
    """A variant that is exactly the champion, but for some figures; what is no attribute of a row is a metric."""
    known = {
        "bytes": 246_074,
        "parameters": 100,
        "drop": 0.0,
        "drop_low": 0.0,
        "drop_high": 0.0,
        "agreement": 0.99,
        "difference": 0.1,
        "batch_effect": 0.0,
        "p50_1_ms": 0.0363,
        "p99_1_ms": 0.05,
        "p50_64_ms": 1.89,
        "p99_64_ms": 2.5,
        "rows_per_second": 33_862.4,
        "memory_bytes": 3_100_000,
        "speedup": 1.0,
        "speedup_low": 1.0,
        "speedup_high": 1.0,
    }
    return VariantRow.from_document({"variant": name, **known, **figures})
