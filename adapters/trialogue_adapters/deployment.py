"""From settings to an application: the one place that knows which settings make which parts."""

from __future__ import annotations

import sys

from trialogue import Policy
from trialogue_adapters.servers.asgi import App
from trialogue_adapters.services import embedded, load
from trialogue_adapters.settings import Settings


def make_app(settings: Settings) -> App:
    """The application that these settings describe. Raises CannotLoad when the named service cannot be imported."""
    source = load(settings.service) if settings.service else embedded(settings, say_aside)
    return App(
        source,
        runtime=settings.service_runtime if settings.service else "asyncio",
        limits=settings.limits(),
        policy=Policy(settings.policy),
        heartbeat=settings.heartbeat,
    )


def say_aside(line: str) -> None:
    """Tell the operator something: standard output is for the address line alone."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
