"""`servers/guard.py`: what stays in a connection, and what must not."""

from __future__ import annotations

import pytest
import trio

from trialogue_adapters.servers.guard import contained


class Failing:
    """Serves by raising."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def __call__(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error", [ValueError("x"), ExceptionGroup("x", [OSError(), ExceptionGroup("y", [KeyError()])])]
)
async def test_exceptions_stay(error: Exception) -> None:
    await contained(Failing(error))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), BaseExceptionGroup("x", [KeyboardInterrupt()])])
async def test_what_ends_a_process_goes_through(error: BaseException) -> None:
    with pytest.raises(type(error)):
        await contained(Failing(error))


async def test_of_a_mixed_group_only_the_rest_goes_through() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await contained(Failing(BaseExceptionGroup("x", [ValueError(), KeyboardInterrupt()])))
    assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt]


async def test_a_cancelled_connection_is_cancelled() -> None:
    async def serve() -> None:
        scope.cancel()
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        await contained(serve)
        pytest.fail("it went on")
    assert scope.cancelled_caught
