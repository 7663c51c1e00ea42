"""OpenAI's Responses API, without storage: its requests and answers, whole and as typed events."""
