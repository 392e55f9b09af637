"""Waits for what has to become true, with a generous deadline instead of a guess."""

import asyncio
import inspect
import time


async def until(condition, what: str, found=None, seconds: float = 60):
    """The first true value of `condition`, which is asked again and again. `found` says what there is instead."""
    deadline = time.monotonic() + seconds
    while True:
        value = await called(condition)
        if value:
            return value
        if time.monotonic() > deadline:
            instead = f", found {await called(found)}" if found else ""
            raise AssertionError(f"not within {seconds} s: {what}{instead}")
        await asyncio.sleep(0.02)


async def called(function):
    value = function()
    return await value if inspect.isawaitable(value) else value
