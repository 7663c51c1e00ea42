"""Parts of the service in the background: started, looked after, told of."""
