"""Tables to reproduce over the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.client.base import Api, segment

Table = dict[str, Any]


class Tables(Api):
    """Raises `ApiError` where the service refuses, `ServiceUnavailable` where it is not."""

    def keep_table(self, manifest: Mapping[str, Any], *, project: str | None = None) -> Table:
        """Keep a manifest under its name; nothing is submitted."""
        table: Table = self._post("/api/v1/tables", dict(manifest), project=project)
        return table

    def result_tables(self) -> list[Table]:
        """All tables, the last changed first."""
        items: list[Table] = self._get("/api/v1/tables")["items"]
        return items

    def result_table(self, table_id: str) -> Table:
        """A table with its cells and rows."""
        table: Table = self._get(f"/api/v1/tables/{segment(table_id)}")
        return table

    def submit_table(self, table_id: str) -> dict[str, Any]:
        """Submit what is missing, stale or failed. Safe to repeat."""
        made: dict[str, Any] = self._post(f"/api/v1/tables/{segment(table_id)}/submit", {})
        return made
