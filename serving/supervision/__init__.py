"""Parts of the service in the background: started, supervised, reported."""
