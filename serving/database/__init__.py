"""The gateway's own records (keys, files, vector stores, jobs, votes, rates): in SQLite files, or in one PostgreSQL."""
