"""What all tables share: ids that sort by time, names of constraints, a big integer key for both databases."""

from __future__ import annotations

import secrets
import time

from sqlalchemy import BigInteger, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite autoincrements only INTEGER keys


def new_id(prefix: str) -> str:
    """A short id that sorts by time: `job_` + 8 characters of milliseconds + 6 random ones."""
    ms, out = int(time.time() * 1000), ""
    for _ in range(8):
        ms, digit = divmod(ms, 32)
        out = _ALPHABET[digit] + out
    return f"{prefix}_{out}" + "".join(secrets.choice(_ALPHABET) for _ in range(6))


class Base(DeclarativeBase):
    # Every constraint has a name: a later migration can then change it on both databases.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
