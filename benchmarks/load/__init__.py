"""The load generator: drives any OpenAI endpoint as its users would, and keeps what happened, request by request."""
