"""The filter language of lists: text to a condition on jobs. Parsed, never evaluated; values are bound parameters."""

from __future__ import annotations

from service.filters.language import Filter, parse_filter

__all__ = ["Filter", "parse_filter"]
