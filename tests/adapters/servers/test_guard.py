"""`servers/guard.py`: what stays in a connection, and what must not."""

from __future__ import annotations

import pytest
import trio

from trialogue_adapters.servers.guard import contained


@pytest.mark.parametrize(
    "error", [ValueError("x"), ExceptionGroup("x", [OSError(), ExceptionGroup("y", [KeyError()])])]
)
def test_exceptions_stay(error: Exception) -> None:
    with contained():
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), BaseExceptionGroup("x", [KeyboardInterrupt()])])
def test_what_ends_a_process_goes_through(error: BaseException) -> None:
    with pytest.raises(type(error)), contained():
        raise error


def test_of_a_mixed_group_only_the_rest_goes_through() -> None:
    with pytest.raises(BaseExceptionGroup) as caught, contained():
        raise BaseExceptionGroup("x", [ValueError(), KeyboardInterrupt()])
    assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt]


async def test_a_cancelled_connection_is_cancelled() -> None:
    with trio.CancelScope() as scope:
        with contained():
            scope.cancel()
            await trio.sleep_forever()
        pytest.fail("it went on")
    assert scope.cancelled_caught
