"""What is an address (`s3://bucket/photos`), and how one is shown: never with its password or its query."""

import re

ADDRESS = re.compile(r"(?:(?:filecache|simplecache)::)?([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_WRITTEN = re.compile(
    r"\b([a-z][a-z0-9+.-]*)://(?:([^\s/'\"<>]*)@)?([^\s?'\"<>]*)(\?[^\s'\"<>]*)?", re.IGNORECASE
)
_QUERY = re.compile(r"\?[\w.~-]+=")  # which sets it apart from a pattern, shard-?.tar
_CONTAINED = ("abfs", "abfss", "wasb", "wasbs")  # container@account stands where others have user@host


def is_address(text: object) -> bool:
    """Whether this is text that begins with a scheme such as s3:// or https://."""
    return isinstance(text, str) and bool(ADDRESS.match(text))


def shown(text: str) -> str:
    """Any text, with the addresses in it shorn of user, password and query (where signatures stand).

    >>> shown("cannot read https://me:secret@host/a.zip?key=1.")
    'cannot read https://host/a.zip'
    """
    return _WRITTEN.sub(_shorn, text) if "://" in text else text


def _shorn(found: re.Match[str]) -> str:
    scheme, user, rest, query = found.groups(default="")
    container = scheme.lower() in _CONTAINED and user and ":" not in user
    pattern = scheme.lower() not in ("http", "https") and not _QUERY.match(query)
    return f"{scheme}://{user + '@' if container else ''}{rest}{query if pattern else ''}"
