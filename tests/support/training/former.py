"""What former versions of this project made, and this one must still serve, judge and roll back to."""

from pathlib import Path

FORMER = Path(__file__).with_name("former-linear-1.0.mar")  # packed at 3534f1c, whose handlers were one flat folder
