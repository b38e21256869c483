"""The catalog: what exists and what was decided, in SQLite or PostgreSQL. SQLAlchemy is imported at the first use."""
