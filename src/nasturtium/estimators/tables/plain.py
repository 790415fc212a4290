"""The plain format of tables."""
