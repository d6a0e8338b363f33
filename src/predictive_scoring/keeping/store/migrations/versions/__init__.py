"""One file per revision. A released one is never edited; the next one changes what it made.

There is no way back (`downgrade`): an older release refuses a newer store, and a backup is restored instead."""
