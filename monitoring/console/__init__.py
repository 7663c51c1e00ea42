"""The web page of the monitor: what is served, how good it is, what was done about it, and buttons to do something."""
