"""API keys and admission, checked before a route runs and before a byte of the body is read."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.http.deps import ServiceDep
from app.http.keys import Keys
from app.http.problems import RETRY_AFTER, Problem
from app.settings import Settings

CHALLENGE = 'Bearer realm="smart-iqa"'
PROBLEMS = ("missing_key", "invalid_key")
ADMIN_PROBLEMS = (*PROBLEMS, "admin_key_required", "not_found")

_BEARER = HTTPBearer(auto_error=False, description="`Authorization: Bearer KEY`, where keys are configured.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key in a header of its own.")


class Access:
    """Checks API keys. An admin key is valid for every route, an ordinary key for all but ``/admin/*``.

    Args:
        settings: The keys, and the files of keys.
        clock: Returns seconds of a monotonic clock.

    Raises:
        ValueError: A key's entry is malformed.
        OSError: A file of keys cannot be read.

    Attributes:
        keys_needed: Whether ordinary keys are configured, so that scoring needs a key.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = Keys(settings.api_keys, settings.api_keys_file, clock=clock)
        self._admin_keys = Keys(settings.admin_keys, settings.admin_keys_file, clock=clock, setting="admin_keys")
        self.keys_needed = self._keys.configured

    def __str__(self) -> str:
        """Who may ask, for the log."""
        who = f"keys: {len(self._keys)}" if self.keys_needed else "open to everybody"
        return f"{who}, admin keys: {len(self._admin_keys)}"

    def names(self) -> set[str]:
        """Names of all keys that are known now."""
        return {*self._keys.names(), *self._admin_keys.names()}

    def user(self, key: str | None, *, always: bool) -> str:
        """The name of a key's owner; "" if no key is needed.

        Args:
            key: The key that the client sent.
            always: Whether a key is needed even if no ordinary ones are configured.

        Raises:
            Problem: The key is missing or unknown.
        """
        if not self.keys_needed and not always:
            return ""
        owner = _owner(self._keys, key) or _owner(self._admin_keys, key)
        if owner is None:
            raise _refused(key)
        return owner

    def admin(self, key: str | None) -> str:
        """The name of an admin key's owner.

        Raises:
            Problem: The key is missing, unknown, or not an admin's; or no admin keys are configured.
        """
        if not self._admin_keys.configured:
            raise Problem("not_found", "Not Found")
        owner = _owner(self._admin_keys, key)
        if owner is None:
            if _owner(self._keys, key) is not None:
                raise Problem("admin_key_required", "this key may not do that")
            raise _refused(key)
        return owner


def _owner(keys: Keys, key: str | None) -> str | None:
    return keys.owner(key) if key else None


def _refused(key: str | None) -> Problem:
    if not key:
        detail = "send a key as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'"
        return Problem("missing_key", detail, {"WWW-Authenticate": CHALLENGE})
    return Problem("invalid_key", "this key is not known", {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'})


async def _sent_key(
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    header: Annotated[str | None, Depends(_HEADER)],
) -> str | None:
    return bearer.credentials if bearer else header


SentKey = Annotated[str | None, Depends(_sent_key)]


async def need_key(request: Request, key: SentKey) -> None:
    """Require a key if ordinary keys are configured; sets ``request.state.key`` to the name of its owner, or ""."""
    request.state.key = request.app.state.access.user(key, always=False)


async def need_key_always(request: Request, key: SentKey) -> None:
    """Require a key; without ordinary keys, an admin's. Sets ``request.state.key``."""
    request.state.key = request.app.state.access.user(key, always=True)


async def need_admin(request: Request, key: SentKey) -> None:
    """Require an admin's key. Sets ``request.state.key``."""
    request.state.key = request.app.state.access.admin(key)


async def admit(service: ServiceDep) -> AsyncIterator[None]:
    """Refuse the request if the service drains; keep the current models until the request has ended."""
    if service.draining:
        raise Problem("draining", "the service is about to stop; ask another one", RETRY_AFTER)
    with service.generations.hold():
        yield
