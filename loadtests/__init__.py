"""Load tests with Locust: random requests from the contracts, checked answers, objectives judged at the end."""
