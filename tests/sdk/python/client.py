"""What the scripts of the OpenRouter SDK share: clients that remember which operations answered, refusals, lists."""

import inspect
import re

from check import BASE_URL
from openrouter import OpenRouter
from openrouter.basesdk import BaseSDK

# Operations that answered what the SDK could decode: `workspaces.list`.
called = set()


class _Remembering:
    """A resource of the SDK as it is; every call that succeeds through it is remembered."""

    def __init__(self, resource, prefix=""):
        self._resource, self._prefix = resource, prefix

    def __getattr__(self, name):
        value = getattr(self._resource, name)
        if isinstance(value, BaseSDK):
            return _Remembering(value, f"{self._prefix}{name}.")
        if not callable(value):
            return value

        def call(*args, **kwargs):
            answer = value(*args, **kwargs)
            called.add(f"{self._prefix}{name}")
            return answer

        return call


def client(api_key=None):
    return _Remembering(OpenRouter(server_url=BASE_URL, api_key=api_key))


def offered(resource=None, prefix=""):
    """All operations that the SDK offers, with the request that each makes, as its own sources say.

    The same operation for asyncio is not counted again.
    """
    if resource is None:
        resource = OpenRouter(server_url=BASE_URL)
    operations = []
    for name in dir(resource):
        value = None if name.startswith("_") or name == "parent_ref" else getattr(resource, name)
        if isinstance(value, BaseSDK):
            operations += offered(value, f"{prefix}{name}.")
        # What the client itself has, outside of resources, are helpers.
        elif prefix and inspect.ismethod(value) and name in vars(type(resource)) and not name.endswith("_async"):
            source = inspect.getsource(value)
            method = re.search(r'method="(\w+)"', source)
            path = re.search(r'path="([^"]+)"', source)
            assert method and path, f"the SDK is built differently: {prefix}{name}"
            operations.append((f"{prefix}{name}", method[1], path[1]))
    return operations


def refused(kind, status, message, call, *args, **kwargs):
    """Expects the SDK's own typed error, and the message in it."""
    try:
        call(*args, **kwargs)
    except kind as error:
        assert error.status_code == status, error
        assert error.data.error.code == status, error
        assert re.search(message, error.message), error
        return error
    raise AssertionError(f"answered, instead of {status}")


def walk(page):
    """All items of a list, page for page as the SDK walks through it, and how many pages it took."""
    items, totals, pages = [], set(), 0
    while page is not None:
        pages += 1
        totals.add(page.result.total_count)
        items += page.result.data
        page = page.next()
    assert totals == {len(items)}, f"total_count: {totals} of {len(items)}"
    assert len({item.id for item in items}) == len(items), "an item was listed twice"
    return items, pages
