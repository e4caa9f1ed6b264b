"""What a document is, and how messages name several of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["Corpus", "Document", "first_names", "list_available"]


class Document(NamedTuple):
    """One text.

    Attributes
    ----------
    name : str
        A name that no other document of the corpus has.
    text : str
    source : str
        A publisher, an author or a folder; may be empty.
    fields : mapping
        The other columns of its row as strings; true and false in JSON become "true" and "false".
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
        Number of texts that were left out because they are white space only.
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
