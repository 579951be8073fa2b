from __future__ import annotations

import pytest

from trialogue_adapters.rag import errors


@pytest.mark.parametrize("name", ["DocsError", "IndexFileError", "LocalModelError", "PromptTooLongError"])
def test_everything_is_one_family(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.RagError)
