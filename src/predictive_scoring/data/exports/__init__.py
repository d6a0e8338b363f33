"""Exports of known products: which files are which, and the queries that read them as leads, events and changes."""
