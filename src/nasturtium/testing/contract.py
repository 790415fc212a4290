"""What a broken law raises, and how its name gets into the message."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

P = ParamSpec("P")


class ContractError(AssertionError):
    """A law that does not hold.

    Args:
        message: What was expected, and what came.
        law: Name of the law, set by `law`.
    """

    def __init__(self, message: str, law: str = "") -> None:
        self.law = law
        self.message = message
        super().__init__(f"The law {law!r} does not hold. {message}" if law else message)


def require(held: object, message: str) -> None:
    """Raise a `ContractError` where something did not hold.

    Raises:
        ContractError: It did not.
    """
    if not held:
        raise ContractError(message)


def law(check: Callable[P, None]) -> Callable[P, None]:
    """Put the name of a law into what it raises; other errors carry a note that says when they came."""

    @wraps(check)
    def named(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            check(*args, **kwargs)
        except ContractError as error:
            if error.law:
                raise
            raise ContractError(error.message, check.__name__).with_traceback(error.__traceback__) from error.__cause__
        except Exception as error:
            error.add_note(f"It came while the law {check.__name__!r} was checked: {check.__doc__}")
            raise

    return named
