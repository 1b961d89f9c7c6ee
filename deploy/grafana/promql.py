"""Metrics by the names Prometheus gives them when it receives OTLP, with its default of unit and type suffixes."""

from shared.metrics import Counter, Histogram, Metric

_UNITS = {"s": "_seconds", "By": "_bytes"}


def series(metric: Metric) -> str:
    """The base name; a histogram's has `_bucket`, `_sum` and `_count` behind it."""
    name = metric.name.replace(".", "_") + _UNITS.get(metric.unit, "")
    return f"{name}_total" if isinstance(metric, Counter) else name


def all_series(metric: Metric) -> set[str]:
    base = series(metric)
    return {f"{base}_{end}" for end in ("bucket", "sum", "count")} if isinstance(metric, Histogram) else {base}


def label(attribute: str) -> str:
    return attribute.replace(".", "_")


def labels(metric: Metric) -> set[str]:
    return {label(attribute) for attribute in metric.attributes} | ({"le"} if isinstance(metric, Histogram) else set())


def rate(metric: Counter | Histogram, *by: str, where: str = "", window: str = "$__rate_interval") -> str:
    """A second's worth, summed up; of a histogram: of its count."""
    name = f"{series(metric)}_count" if isinstance(metric, Histogram) else series(metric)
    return f"sum{_by(*by)} (rate({name}{_where(where)}[{window}]))"


def increase(metric: Counter | Histogram, *by: str, where: str = "", window: str = "$__range") -> str:
    return rate(metric, *by, where=where, window=window).replace("(rate(", "(increase(")


def quantile(share: float, metric: Histogram, *by: str, where: str = "") -> str:
    inner = f"sum{_by('le', *by)} (rate({series(metric)}_bucket{_where(where)}[$__rate_interval]))"
    return f"histogram_quantile({share:g}, {inner})"


def now(metric: Metric, *by: str, where: str = "") -> str:
    return f"sum{_by(*by)} ({series(metric)}{_where(where)})"


def _by(*attributes: str) -> str:
    return f" by ({', '.join(label(attribute) for attribute in attributes)})" if attributes else ""


def _where(text: str) -> str:
    return f"{{{text}}}" if text else ""
