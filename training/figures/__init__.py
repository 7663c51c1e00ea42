"""How figures are shown: charts as SVG, pages, numbers, times taken in turn."""
