"""Presentation of figures: charts as SVG, pages, numbers, times measured in turn."""
