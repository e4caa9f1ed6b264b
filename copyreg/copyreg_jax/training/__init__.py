"""Copyright regression for language models: the loss for any loop, GPT-2, text, certificates."""
