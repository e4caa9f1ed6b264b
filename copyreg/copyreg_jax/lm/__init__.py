"""Copyright regression for language models: the loss for any loop, models, text, leakage."""
