"""Storage in an S3 bucket: objects `PREFIX/objects/ab/<sha256>`, whole when visible, their hash as metadata too.

Endpoint, region and credentials come from the environment that all AWS tools read. This is the one file that knows
boto3: its faults leave here as `StorageUnavailable` or `CorruptObject`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    NoCredentialsError,
    PartialCredentialsError,
)
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

from bcd.records import StoredObject
from bcd.storage.address import S3Address
from bcd.storage.store import CHUNK, CorruptObject, StorageUnavailable, checked_key, damaged, hash_of, object_key

PART = 16 << 20  # bytes; larger files go up and down in parts of this size, each repeated by itself when it fails
LONGEST_UPLOAD = 86400.0  # seconds; S3 tells when an upload in parts began, not whether it still goes on
_TRANSFER = TransferConfig(
    multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4, preferred_transfer_client="classic"
)
_GONE = frozenset({"404", "NoSuchKey", "NotFound"})
_KEYS_REFUSED = frozenset(
    {"401", "403", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
)
_ELSEWHERE = frozenset({"301", "307", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException",
                        "PermanentRedirect"})  # fmt: skip


class S3Store:
    """`Store` in a bucket that exists."""

    def __init__(self, address: S3Address, silence: float):
        self._address, self.uri, self._silence = address, str(address), silence

    def put(self, path: Path, *, step: int = 0) -> StoredObject:
        with path.open("rb") as file:
            digest = hash_of(file)
            size = file.tell()
            key = object_key(digest)
            file.seek(0)
            # Also when it is there already: that heals a damaged one, and asking first would save little.
            with self._asking():
                extra = {"Metadata": {"sha256": digest}, "ContentType": "application/octet-stream"}
                self._client.upload_fileobj(file, **self._place(key), ExtraArgs=extra, Config=_TRANSFER)
        return StoredObject(key=key, sha256=digest, size=size, step=step)

    def get(self, stored: StoredObject, *, into: Path) -> Path:
        path = into / Path(checked_key(stored.key)).name
        if _has_hash(path, stored.sha256):
            return path
        size = self.size(stored.key)
        if size is None:
            raise CorruptObject(f"cannot read {stored.key}: there is no such object in {self.uri}")
        if size != stored.size:
            raise CorruptObject(f"{stored.key} is damaged: {size} bytes in {self.uri}, {stored.size} expected")
        into.mkdir(parents=True, exist_ok=True)
        aside = into / f".{path.name}.{secrets.token_hex(8)}"
        try:
            with aside.open("xb") as file, self._asking():
                self._client.download_fileobj(**self._place(stored.key), Fileobj=file, Config=_TRANSFER)
            with aside.open("rb") as file:
                digest = hash_of(file)
            if digest != stored.sha256:
                raise damaged(stored.key, digest)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        return path

    def size(self, key: str) -> int | None:
        place = self._place(key)
        try:
            with self._asking():
                return int(self._client.head_object(**place)["ContentLength"])
        except CorruptObject:
            self.check()  # the answer to HEAD does not tell a missing object from a missing bucket
            return None

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        place = self._place(key)
        if start >= end:
            return iter(())
        with self._asking():
            body = self._client.get_object(**place, Range=f"bytes={start}-{end - 1}")["Body"]
        return self._blocks(body, key, end - start)

    def delete(self, key: str) -> None:
        with self._asking():
            self._client.delete_object(**self._place(key))

    def sweep_partial(self, before: float) -> None:
        place = {"Bucket": self._address.bucket, "Prefix": self._key("objects/")}
        with self._asking():
            for page in self._client.get_paginator("list_multipart_uploads").paginate(**place):
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"].timestamp() < before - LONGEST_UPLOAD:
                        self._client.abort_multipart_upload(
                            Bucket=self._address.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )

    def check(self) -> None:
        try:
            with self._asking():
                self._client.head_bucket(Bucket=self._address.bucket)
        except CorruptObject:
            raise StorageUnavailable(self._no_bucket()) from None

    # ---------------------------------------------------------------------------------------------- details

    @cached_property
    def _client(self) -> Any:
        # Few tries: whoever can wait for S3 does so with a longer view than one call has.
        tries = {"mode": "standard", "total_max_attempts": 3}
        config = Config(connect_timeout=5, read_timeout=self._silence, retries=tries)
        try:
            # A session of its own: boto3's default one may not be used by several threads.
            return Session().client("s3", config=config)
        except ValueError as error:  # an endpoint that is no address
            raise StorageUnavailable(f"{self.uri} cannot be asked: {error}; see AWS_ENDPOINT_URL_S3") from error

    def _key(self, key: str) -> str:
        return f"{self._address.prefix}/{key}" if self._address.prefix else key

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._address.bucket, "Key": self._key(checked_key(key))}

    def _blocks(self, body: Any, key: str, length: int) -> Iterator[bytes]:
        with contextlib.closing(body):
            while length > 0:
                with self._asking():
                    block = body.read(min(CHUNK, length))
                if not block:
                    raise CorruptObject(f"{key} in {self.uri} is {length} bytes too short")
                length -= len(block)
                yield block

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Around every use of the client: what boto3 raises becomes one of the two faults of storage."""
        try:
            yield
        except FlexibleChecksumError as error:
            raise CorruptObject(f"what {self.uri} sends is damaged: {error}") from error
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _GONE or code == "InvalidRange":
                raise CorruptObject(f"there is no such object in {self.uri}") from error
            raise StorageUnavailable(self._refusal(code, error)) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StorageUnavailable(
                f"there are no credentials for {self.uri}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                f"another source of credentials that AWS tools know ({error})"
            ) from error
        except (BotoCoreError, RetriesExceededError, S3DownloadFailedError) as error:
            raise StorageUnavailable(f"{self.uri} cannot be reached: {error}") from error

    def _refusal(self, code: str, error: ClientError) -> str:
        if code == "NoSuchBucket":
            return self._no_bucket()
        if code in _KEYS_REFUSED:
            return f"{self.uri} refuses these credentials ({error}): check them and what they permit"
        if code in _ELSEWHERE:
            return f"the bucket of {self.uri} is in another region ({error}): set AWS_DEFAULT_REGION to it"
        return f"{self.uri} does not do what it is asked: {error}"

    def _no_bucket(self) -> str:
        where = self._client.meta.endpoint_url
        return f"the bucket {self._address.bucket} of {self.uri} does not exist at {where}: make it, or name another"


def _has_hash(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hash_of(file) == sha256
    except FileNotFoundError:
        return False
