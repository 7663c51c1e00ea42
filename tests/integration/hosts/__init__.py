"""What is promised on every host, and the direct host as a user runs it."""
