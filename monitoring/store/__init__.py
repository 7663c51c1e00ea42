"""The monitor's database: predictions, labels, jobs and decisions."""
