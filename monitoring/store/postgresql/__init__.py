"""What the store does in PostgreSQL's own way: rows by COPY, and predictions in partitions by time."""
