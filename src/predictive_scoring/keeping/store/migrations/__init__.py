"""The store's tables as they came to be, for Alembic."""
