"""`bcd demo`."""


def demo() -> None: ...
