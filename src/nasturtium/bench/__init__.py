"""Strategies measured against each other on tables."""
