"""How a receiver knows that a delivery is from us: a signature with a key that it alone shares with us.

The key is derived from the installation's secret and the webhook's id, so that nothing secret is stored.
"""

from __future__ import annotations

import hashlib
import hmac

from service.settings import Settings

HEADER = "X-Bcd-Signature"
DELIVERY_HEADER = "X-Bcd-Delivery"


def secret_of(settings: Settings, webhook_id: str) -> str:
    """The signing key of a webhook, as its receiver is given it."""
    key = settings.secret_file.read_text(encoding="ascii").strip().encode()
    # The prefix keeps it apart from what else is derived from the same secret.
    return "whsec_" + hmac.new(key, f"webhook:{webhook_id}".encode(), hashlib.sha256).hexdigest()


def signature(secret: str, time: int, body: bytes) -> str:
    """The header's value: the time in Unix seconds is signed with the body, so that an old delivery shows as such."""
    digest = hmac.new(secret.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={time},v1={digest}"
