"""Load tests with Locust: requests drawn from the contracts, answers checked, objectives judged at the end."""
