"""One file per revision. A released one is never edited; the next one changes what it made."""
