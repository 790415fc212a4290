"""Nasturtium."""
