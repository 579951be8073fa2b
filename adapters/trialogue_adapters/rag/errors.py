"""What can go wrong before a turn begins, in words that name the folder, the file or the command that helps.

Nothing here imports anything. A failure *during* a turn is not an exception of this package but an `error` event of
the stream, because that is what every ChatService owes its caller.
"""

from __future__ import annotations


class RagError(Exception):
    """The embedded service cannot start or answer; the message says why and what to do."""


class DocsError(RagError):
    """The documents folder is missing, is no folder, or holds nothing that can be read."""


class IndexFileError(RagError):
    """The index file that was asked for belongs to something else."""


class LocalModelError(RagError):
    """The local model is not installed, is not the file that was measured, or did not load or answer."""


class PromptTooLongError(LocalModelError):
    """The prompt does not fit the context of one slot: the caller shortens it and asks again."""
