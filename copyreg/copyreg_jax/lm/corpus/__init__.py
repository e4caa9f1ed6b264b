"""From files to the rows of tokens that training takes."""

__all__ = [
    "documents",
    "duplicates",
    "encoding",
    "loading",
    "rows",
    "selection",
    "tokenizer",
]
