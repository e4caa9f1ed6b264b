"""What a trained model gives away of its training data."""
