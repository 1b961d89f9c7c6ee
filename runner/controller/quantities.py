"""Kubernetes' quantities as numbers. Pure. Source: k8s.io/apimachinery, pkg/api/resource."""

import math
from decimal import Decimal, InvalidOperation

from shared.errors import Poison

_BINARY = {suffix: Decimal(2) ** (10 * power) for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}
_DECIMAL = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal("1e3"),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
    "T": Decimal("1e12"),
    "P": Decimal("1e15"),
    "E": Decimal("1e18"),
}


def quantity(text: str) -> Decimal:
    """Raises Poison."""
    try:
        if (binary := _BINARY.get(text[-2:])) is not None:
            return Decimal(text[:-2]) * binary
        if (decimal := _DECIMAL.get(text[-1:])) is not None:
            return Decimal(text[:-1]) * decimal
        number = Decimal(text)
    except InvalidOperation as error:
        raise Poison(why=f"{text!r} is no quantity") from error
    if not number.is_finite():
        raise Poison(why=f"{text!r} is no quantity")
    return number


def millis(text: str) -> int:
    """Rounded up, as Kubernetes does."""
    return math.ceil(quantity(text) * 1000)


def whole(text: str) -> int:
    return math.ceil(quantity(text))
