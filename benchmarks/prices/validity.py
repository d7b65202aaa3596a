"""Whether a price may still be used: old ones are flagged, and a retired model falls to its successor, saying so."""

from datetime import date

from benchmarks.prices import ApiPrice, GpuPrice, PriceBook, UnitPrice

STALE_AFTER_DAYS = 90
# Warn this long before a price stops holding: about as long as a decision based on it takes.
_SOON_DAYS = 90


def is_stale(price: ApiPrice | GpuPrice | UnitPrice, today: date) -> bool:
    """Seen more than 90 days ago, or on a day that nobody stated."""
    seen = _day(price.as_of)
    return seen is None or (today - seen).days > STALE_AFTER_DAYS


def has_lapsed(price: ApiPrice | GpuPrice | UnitPrice, today: date) -> bool:
    """The model is shut down or the price has changed."""
    ends = _day(price.deprecates_on)
    return ends is not None and today >= ends


def notes(price: ApiPrice | GpuPrice | UnitPrice, today: date) -> tuple[str, ...]:
    """What to say wherever the price is used; empty when nothing is wrong with it."""
    found = []
    if is_stale(price, today):
        found.append(f"stale price: {price.id} was seen on {price.as_of}, more than {STALE_AFTER_DAYS} days ago")
    ends = _day(price.deprecates_on)
    if ends is not None and today >= ends:
        found.append(f"lapsed price: {price.id} has not held since {ends}; it shows what once was")
    elif ends is not None and (ends - today).days <= _SOON_DAYS:
        successor = price.successor if isinstance(price, ApiPrice) else None
        found.append(f"{price.id} holds until {ends}" + (f"; its successor is {successor}" if successor else ""))
    return tuple(found)


def current(book: PriceBook, model_id: str, today: date) -> tuple[ApiPrice, tuple[str, ...]]:
    """The price to use for a hosted model today, and what to say about it.

    A retired model falls to its successor, and that to its own. One without a successor keeps its price, flagged.
    PriceError when nobody has a price for the model.
    """
    price, said = book.api(model_id), list[str]()
    passed = {price.id}
    while has_lapsed(price, today) and price.successor is not None and price.successor not in passed:
        successor = book.api(price.successor)
        said.append(f"{price.id} was retired on {price.deprecates_on}; priced as its successor {successor.id}")
        price = successor
        passed.add(price.id)
    return price, (*said, *notes(price, today))


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:  # a configured price may say "not stated"
        return None
