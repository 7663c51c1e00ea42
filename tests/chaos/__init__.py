"""What is killed, hung, filled, damaged, flooded and sent, and what holds all the same: ``python -m tests.chaos``."""
