"""What strategies, estimators and studies exchange."""
