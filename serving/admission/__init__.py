"""Who may use the engine, and when: a limit, a fair bounded queue before it, and a door that refuses what would wait
too long."""
