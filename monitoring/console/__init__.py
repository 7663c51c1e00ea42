"""The monitor's web pages: models, their quality, jobs and decisions, with buttons to act."""
