"""``docs/practices.md``: every recited practice, and what it is worth here."""
