"""Language models: requests for text and their answers, in continuous batching."""
