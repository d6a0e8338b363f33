"""What happens while the product runs: tables come into the store, leads are told about, scored, and scored again."""
