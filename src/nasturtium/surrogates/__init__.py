"""Models of performance: encodings, Gaussian processes, ensembles, acquisition functions."""
