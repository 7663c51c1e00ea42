"""What serves archives."""
