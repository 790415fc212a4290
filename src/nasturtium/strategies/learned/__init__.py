"""Strategies that train models of their own, with torch."""
