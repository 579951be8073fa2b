"""The embedded ChatService: a real answerer for a machine without key, hub or network.

`EmbeddedChatService` is all that a server needs; `Retrieval` is its half that finds, for other answerers;
`progress_bar` draws for a command line. The package runs on asyncio and knows nothing of the session engine in front of
it: it must import neither trio nor `trialogue`.
"""

from .errors import DocsError, IndexFileError, LocalModelError, RagError
from .progress import progress_bar
from .retrieval import Retrieval
from .service import EmbeddedChatService

__all__ = [
    "DocsError",
    "EmbeddedChatService",
    "IndexFileError",
    "LocalModelError",
    "RagError",
    "Retrieval",
    "progress_bar",
]
