"""One dispatcher's rounds: seek the lead, act while it lasts, stand by otherwise, and outlive what is away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.dispatch.backend import BackendAway
from service.dispatch.leadership import Leadership, NotLeading
from service.dispatch.reconciler import Reconciler

log = logging.getLogger("bcd.dispatch")


class Background(Protocol):
    """A thread beside the rounds that runs only while this process leads. Started once, stopped once."""

    def start(self) -> None: ...

    def stop(self, timeout: float) -> None: ...


# All that a term of leadership needs, made anew for each: what an earlier term remembered may be wrong by now.
Term = Callable[[], tuple[Reconciler, Sequence[Background]]]


class Dispatcher:
    """Call `round` again and again. It raises nothing."""

    def __init__(self, lead: Leadership, term: Term):
        self._lead, self._term = lead, term
        self._epoch: int | None = None
        self._reconciler: Reconciler | None = None
        self._background: Sequence[Background] = ()
        self._told = ""

    @property
    def leads(self) -> bool:
        return self._reconciler is not None

    def round(self) -> bool:
        """Did it go well? Also True while another one leads."""
        try:
            leads = self._lead.seek()
            if self._lead.epoch != self._epoch or not leads:
                self._end_term()
            if leads:
                self._act()
            self._tell("")
            return True
        except NotLeading as error:
            self._end_term()
            self._tell(str(error))
        except BackendAway as error:
            self._tell(str(error))
        except (DBAPIError, PoolTimeout) as error:
            if not self._lead.is_leader():
                self._end_term()
            self._tell(f"the database does not do its part: {str(error).splitlines()[0]}")
        except Exception:
            log.exception("a round failed; the next one follows")
        return False

    def close(self) -> None:
        """Stop acting, and let another one lead at once."""
        self._end_term()
        try:
            self._lead.resign()
        except Exception as error:
            log.warning("could not give up the lead (it runs out by itself): %s", error)

    def _act(self) -> None:
        if self._reconciler is None:
            log.info("this dispatcher leads (epoch %s)", self._lead.epoch)
            self._epoch = self._lead.epoch
            self._reconciler, self._background = self._term()
            for one in self._background:
                one.start()
        self._reconciler.tick()

    def _end_term(self) -> None:
        if self._reconciler is None:
            return
        log.warning("this dispatcher stands by")
        for one in self._background:
            one.stop(timeout=2.0)
        self._reconciler, self._background, self._epoch = None, (), None

    def _tell(self, text: str) -> None:
        """Log what goes on once, however often it comes again."""
        if text != self._told:
            if text:
                log.warning("%s", text)
            else:
                log.info("all is well again")
            self._told = text
