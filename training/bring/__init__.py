"""Models that were trained elsewhere: from a file to a registered archive."""
