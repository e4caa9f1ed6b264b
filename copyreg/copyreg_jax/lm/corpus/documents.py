"""From files to the arrays that training takes: documents, flags, splits, tokens.

Nothing here needs JAX. What is drawn at random is drawn by hashing names, so that the order of the
documents, the process and the machine make no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["Corpus", "Document", "first_names", "list_available"]


class Document(NamedTuple):
    """One text.

    Attributes
    ----------
    name : str
        Differs from that of any other document of the corpus.
    text : str
    source : str
        Where it comes from: a publisher, an author, a folder; may be empty.
    fields : mapping
        The other columns of its row, as strings; JSON's true and false are "true" and "false".
    """

    name: str
    text: str
    source: str = ""
    fields: Mapping[str, str] = {}


class Corpus(NamedTuple):
    """What `load_documents` found.

    Attributes
    ----------
    documents : list of Document
    num_empty : int
        How many texts were left out because they are white space only.
    """

    documents: list[Document]
    num_empty: int


def first_names(names: Iterable[str]) -> str:
    """List the first five names, for a message."""
    names = list(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def list_available(what: str, names: Iterable[str]) -> str:
    """List what there is to choose from, for a message."""
    return f"{what}: {first_names(sorted(names)) or 'none'}"
