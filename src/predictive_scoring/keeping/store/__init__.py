"""The store: everything that is told about leads, and what was answered, in one SQL database."""
