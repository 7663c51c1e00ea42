"""What the store does for a file of SQLite: it is checked, copied and restored."""
