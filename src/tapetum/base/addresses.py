"""What is an address (`s3://bucket/photos`), and how one is shown: never with its password or its query."""

import re

ADDRESS = re.compile(r"(?:(?:filecache|simplecache)::)?([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# from :// on, for a search for what stands before it takes the square of a stranger's text
_WRITTEN = re.compile(r"://(?:[^\s/'\"<>]*@)?([^\s?'\"<>]*)(\?[^\s'\"<>]*)?")


def is_address(text: object) -> bool:
    """Whether this is text that begins with a scheme such as s3:// or https://."""
    return isinstance(text, str) and bool(ADDRESS.match(text))


def shown(text: str) -> str:
    """Any text, with the addresses in it shorn of user, password and query (where signatures stand).

    >>> shown("cannot read https://me:secret@host/a.zip?key=1.")
    'cannot read https://host/a.zip'
    """
    return _WRITTEN.sub(r"://\1", text)
