"""What the Ray host starts in place of Ray's own programs on each node."""
