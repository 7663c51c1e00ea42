"""The Grafana dashboards, written in Python; ``python -m monitoring.grafana.generate`` writes their JSON."""
