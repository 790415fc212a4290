"""Alembic migrations of the study's schema; applied when a study is opened."""
