"""Content-addressed storage behind one interface: a local folder or S3. `open_store` is the door for both.

No torch here, and no boto3 unless the address is one of S3: the API process reads stored files too.
"""

from __future__ import annotations

from bcd.storage.address import BadAddress, S3Address, read_address
from bcd.storage.folder import FolderStore
from bcd.storage.store import CorruptObject, StorageUnavailable, Store, object_key

__all__ = [
    "BadAddress",
    "CorruptObject",
    "StorageUnavailable",
    "Store",
    "object_key",
    "open_store",
    "read_address",
]


def open_store(uri: str, *, silence: float = 20.0) -> Store:
    """The store at an absolute folder or at `s3://bucket/prefix`. Asks nobody yet. Raises `BadAddress`.

    `silence` is how many seconds S3 may take for an answer before it is asked again, three times in all.
    """
    address = read_address(uri)
    if not isinstance(address, S3Address):
        return FolderStore(address)
    try:
        from bcd.storage.s3 import S3Store
    except ModuleNotFoundError as error:
        raise BadAddress(f"{uri} needs the package {error.name}: install bcd with its extra `s3`") from error
    return S3Store(address, silence)
