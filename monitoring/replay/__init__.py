"""The replay of a real year through the real service, which measures the worth of the closed loop."""
