"""Projects, users, tokens, webhooks, the audit record and the cluster over the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.client.base import Api, segment


class Admin(Api):
    """What administrators (and everybody for their own tokens) do."""

    def me(self) -> dict[str, Any]:
        """Who this token is, and what it may do."""
        found: dict[str, Any] = self._get("/api/v1/me")
        return found

    def cluster(self) -> dict[str, Any]:
        """Nodes, what is in use, how long the queues are, who leads."""
        found: dict[str, Any] = self._get("/api/v1/cluster")
        return found

    def projects(self) -> list[dict[str, Any]]:
        return self._all("/api/v1/projects")

    def create_project(self, project: str, **more: Any) -> dict[str, Any]:
        """`more`: description, max_jobs, max_gpus."""
        found: dict[str, Any] = self._post("/api/v1/projects", {"id": project, **more})
        return found

    def change_project(self, project: str, **changes: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._post(f"/api/v1/projects/{segment(project)}", changes, method="PATCH")
        return found

    def members(self, project: str) -> list[dict[str, Any]]:
        return self._all(f"/api/v1/projects/{segment(project)}/members")

    def set_member(self, project: str, user: str, role: str) -> dict[str, Any]:
        """`role`: viewer, editor or admin."""
        path = f"/api/v1/projects/{segment(project)}/members/{segment(user)}"
        found: dict[str, Any] = self._post(path, {"role": role}, method="PUT")
        return found

    def remove_member(self, project: str, user: str) -> None:
        self._post(f"/api/v1/projects/{segment(project)}/members/{segment(user)}", method="DELETE")

    def users(self) -> list[dict[str, Any]]:
        return self._all("/api/v1/users")

    def create_user(self, name: str, *, is_admin: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = self._post("/api/v1/users", {"name": name, "is_admin": is_admin})
        return found

    def change_user(self, name: str, **changes: Any) -> dict[str, Any]:
        """`changes`: is_admin, disabled."""
        found: dict[str, Any] = self._post(f"/api/v1/users/{segment(name)}", changes, method="PATCH")
        return found

    def tokens(self) -> list[dict[str, Any]]:
        """One's own tokens and sessions."""
        return self._all("/api/v1/tokens")

    def create_token(self, name: str, scope: str, **more: Any) -> dict[str, Any]:
        """`token` of the answer is the secret; it is shown this once. `more`: project, expires_in (seconds), user."""
        found: dict[str, Any] = self._post("/api/v1/tokens", {"name": name, "scope": scope, **more})
        return found

    def revoke_token(self, token_id: str) -> None:
        self._post(f"/api/v1/tokens/{segment(token_id)}", method="DELETE")

    def audit(self, *, limit: int = 100, **wanted: Any) -> list[dict[str, Any]]:
        """Who did or tried what, newest first. `wanted`: action, actor, target, project."""
        items: list[dict[str, Any]] = self._get("/api/v1/audit", limit=limit, **wanted)["items"]
        return items

    def webhooks(self, project: str) -> list[dict[str, Any]]:
        return self._all(f"/api/v1/projects/{segment(project)}/webhooks")

    def create_webhook(self, project: str, url: str, states: Sequence[str]) -> dict[str, Any]:
        """The answer holds the `secret` that signs deliveries; it is shown this once."""
        found: dict[str, Any] = self._post(
            f"/api/v1/projects/{segment(project)}/webhooks", {"url": url, "states": list(states)}
        )
        return found

    def delete_webhook(self, webhook_id: str) -> None:
        self._post(f"/api/v1/webhooks/{segment(webhook_id)}", method="DELETE")

    def _all(self, path: str) -> list[dict[str, Any]]:
        """Every page of a list."""
        items: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = self._get(path, cursor=cursor)
            items += page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return items
