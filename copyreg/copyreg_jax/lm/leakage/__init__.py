"""What a trained model gives away of its training data."""

__all__ = [
    "against_certificate",
    "extraction",
    "losses",
    "report",
    "sampling",
    "similarity",
    "windows",
]
