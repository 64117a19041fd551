"""The installation's storage as the service uses it: one store for a process, and removal of what nobody names."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from bcd.storage import CorruptObject, StorageUnavailable, Store, open_store
from service.settings import Settings

log = logging.getLogger("bcd.storage")

SILENCE = 5.0  # seconds; a worker whose checkpoints make others go, and a person with a browser, wait no minute


def of(settings: Settings) -> Store:
    """The store of this installation. Raises `BadAddress`."""
    return _opened(settings.storage_uri)


@functools.cache  # opening S3 takes a good part of a second
def _opened(uri: str) -> Store:
    return open_store(uri, silence=SILENCE)


def remove_after_commit(session: Session, settings: Settings, keys: Iterable[str]) -> None:
    """Delete stored files that no row names any more, once the rows are gone for good."""

    @event.listens_for(session, "after_commit", once=True)
    def _committed(_: Session) -> None:
        # Not yet: the transaction gives its connection back first, and storage may take its time.
        @event.listens_for(session, "after_transaction_end", once=True)
        def _ended(_: Session, __: SessionTransaction) -> None:
            _remove(settings, keys)


def _remove(settings: Settings, keys: Iterable[str]) -> None:
    """What cannot be deleted is logged and left: no row names it, so it only takes room."""
    for key in keys:
        try:
            of(settings).delete(key)
        except CorruptObject as error:
            log.warning("not removed from storage: %s", error)
        except StorageUnavailable as error:
            log.warning("not removed from storage: %s and what else was to go with it: %s", key, error)
            return


def sweep(settings: Settings, before: float) -> None:
    """Remove what writers that died had half-written before this time; does nothing while storage is away."""
    try:
        of(settings).sweep_partial(before)
    except StorageUnavailable as error:
        log.warning("half-written files were not looked for: %s", error)
