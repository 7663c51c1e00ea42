"""Who may call, whose folders these are, and what runs here."""
