"""The Ray host: archives as applications of Ray Serve, on one machine or several, behind a small HAProxy."""
