"""Copyright regression for language models: the loss for any loop, models, text, leakage."""

__all__ = [
    "corpus",
    "curves",
    "estimate",
    "evaluation",
    "experiment",
    "leakage",
    "loop",
    "model_sources",
    "models",
    "prepared",
    "protection",
    "records",
    "run_folder",
    "settings",
]
