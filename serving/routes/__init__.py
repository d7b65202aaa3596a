"""The HTTP edge: OpenAI's endpoints, Breakeven's own management calls, and what operations tools ask for."""
