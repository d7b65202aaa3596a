"""The durable ledger of requests and of the bill, in SQLite or PostgreSQL, and what is read from it."""
