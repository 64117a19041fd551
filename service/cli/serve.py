"""`bcd up`."""


def up() -> None: ...
