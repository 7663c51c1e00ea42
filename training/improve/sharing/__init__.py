"""What workers of a search or an ablation share, on one machine by files, on several by PostgreSQL."""
