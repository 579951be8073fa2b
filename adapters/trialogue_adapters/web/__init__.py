"""The page, as bytes; and the client library, which the page imports as its neighbour.

Every file that may be served is read into one dictionary when this package is imported, so a request is a look-up by
exact name: no path is ever built from what a client sent, and nothing outside these folders can be reached. The client
has a folder of its own, for that is what `npm install` takes: the only copy there is, and no file of the page with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["CLIENT", "CONTENT_SECURITY_POLICY", "ROOT", "read"]

ROOT: Final = Path(__file__).parent / "static"
CLIENT: Final = Path(__file__).parent / "npm"

# What the page needs and no more; it holds no inline script or style, so none is allowed.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_CONTENT_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}

_FILES: Final = {
    path.relative_to(folder).as_posix(): (path.read_bytes(), _CONTENT_TYPES[path.suffix])
    for folder in (ROOT, CLIENT)
    for path in sorted(folder.rglob("*"))
    if path.suffix in _CONTENT_TYPES
}


def read(path: str) -> tuple[bytes, str] | None:
    """The file of that name relative to `static/` ("page.js", "vendor/marked.esm.js") and its content type, or None."""
    return _FILES.get(path)
