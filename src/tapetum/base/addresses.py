"""What is an address (`s3://bucket/photos`), and how one is shown: never with its password or its query."""

import re

ADDRESS = re.compile(r"(?:(?:filecache|simplecache)::)?([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# from :// on, for a search for what stands before it takes the square of a stranger's text
_WRITTEN = re.compile(r"://(?:([^\s/'\"<>]*)@)?([^\s?'\"<>]*)(\?[^\s'\"<>]*)?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*$", re.IGNORECASE)
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
    return _WRITTEN.sub(_shorn, text)


def _shorn(found: re.Match[str]) -> str:
    before = _SCHEME.search(found.string[max(0, found.start() - 20) : found.start()])
    scheme = before[0].lower() if before else "http"
    user, rest, query = found.groups(default="")
    container = scheme in _CONTAINED and user and ":" not in user
    pattern = scheme not in ("http", "https") and not _QUERY.match(query)
    return f"://{user + '@' if container else ''}{rest}{query if pattern else ''}"
