"""The gateway: HTTP edge, one request from start to finish, engine, accounting."""
