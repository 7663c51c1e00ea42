"""OpenAI's API and the native form: requests, answers, errors and their routes."""
