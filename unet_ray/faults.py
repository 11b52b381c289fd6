"""What goes wrong at a disk or a store, in the words and classes of `errors`.

The three S3 clients report the same fault in three ways: by a class, by an HTTP status, by a code in a text.
Here, and only here, they are read.
"""

import errno
import logging
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from unet_ray.errors import AccessError, ChangedError, NotFoundError, StorageError, TransientError
from unet_ray.s3 import endpoint, object_store
from unet_ray.spending import count_outlasted

logger = logging.getLogger(__name__)

T = TypeVar("T")
_Fault = tuple[type[StorageError], str]

_CLIENTS = {"obstore", "botocore", "aiobotocore", "aiohttp"}
_CODE = re.compile(
    r"<Code>(\w+)</Code>|ExceptionName: (\w+)|AWS Error (?!UNKNOWN)([A-Z_]+)|An error occurred \(([A-Z]\w+)\)"
)
_STATUS = re.compile(r"status code: (\d{3})|HTTP status (\d{3})|An error occurred \((\d{3})\)")
_NO_ANSWER = re.compile(
    r"^\w*(Connect|Timeout|HTTPClient|Streaming|Incomplete|Payload|Disconnect)|HTTP error: (?!builder)"
)
# A HEAD is answered without a code, and pyarrow loses the answer to a read that is shorter than the answer.
_MUTE = re.compile(
    r"performing HEAD .*status code: 400|HTTP status 400\) during (Head|Get)Object|INTERNAL_FAILURE during GetObject"
)
_EXPIRED = {"expiredtoken", "invalidtoken", "tokenrefreshrequired"}
_REFUSED = {"accessdenied", "invalidaccesskeyid", "signaturedoesnotmatch", "requesttimetooskewed"}
_MISSING = {"nosuchkey", "resourcenotfound"}
_BUSY = {"slowdown", "serviceunavailable", "internalerror", "internalfailure", "requesttimeout", "throttling"}
_CHANGED = {"preconditionfailed"}
_UNKNOWN = {"notimplemented"}
_ELSEWHERE = {"permanentredirect", "authorizationheadermalformed"}


@contextmanager
def translated(operation: str, uri: str) -> Iterator[None]:
    """Turn what obstore, s3fs, pyarrow and the operating system raise into the errors of this package.

    Args:
        operation: what is done, as a verb: "read".
        uri: what it is done to.

    Raises:
        NotFoundError: no such object, folder or bucket.
        ChangedError: the object is not the one that was asked for by its etag.
        AccessError: credentials that are refused, expired or not to be found; a file that may not be touched.
        TransientError: the store is busy, failing or unreachable, and retries for about 30 s did not help.
        StorageError: any other fault of the store or the disk.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        kind, cause = _remote_fault(error, operation, uri) if uri.startswith("s3://") else _local_fault(error, uri)
        # The store's own words are not chained: they may quote a session token.
        raise kind(f"could not {operation} {uri}: {cause}") from None


OUTAGE_S = 600.0
"""How long `outlast` waits for a store that does not answer."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 20.0


def outlast(work: Callable[[], T], *, seconds: float = OUTAGE_S) -> T:
    """Return ``work()``, called again after each TransientError until ``seconds`` have passed.

    For work that is safe to repeat, in a job whose store has answered before: first contact is not outlasted, so that
    a wrong endpoint is named at once. Pauses grow to 20 s, with full jitter ("Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015). Runs anywhere.
    """
    give_up, pause = time.monotonic() + seconds, _FIRST_PAUSE_S
    while True:
        try:
            return work()
        except TransientError as error:
            if time.monotonic() > give_up:
                raise
            logger.warning("%s; trying again", error)
        count_outlasted()
        time.sleep(random.uniform(0, pause))
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _remote_fault(error: Exception, operation: str, uri: str) -> _Fault:
    if _MUTE.search(str(error)):
        error = _asked_again(uri) or error
    kind = type(error).__name__
    said = f"{kind}: {error} {error.__cause__ or ''}"
    status, spelt = _first(_STATUS, said), _first(_CODE, said)
    answer = f" ({' '.join(filter(None, [status, spelt]))})" if status or spelt else ""
    code = spelt.replace("_", "").lower()
    if "NoCredentialsError" in said:
        return AccessError, "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if code in _EXPIRED:
        return AccessError, f"the session token has expired or is wrong{answer}; renew AWS_SESSION_TOKEN"
    if code == "nosuchbucket":
        return NotFoundError, f"there is no such bucket{answer}; check its name and AWS_ENDPOINT_URL"
    if code in _CHANGED or status == "412" or kind == "PreconditionError":
        return ChangedError, f"the object changed since it was listed{answer}"
    if code in _MISSING or status == "404" or isinstance(error, FileNotFoundError):
        return NotFoundError, f"there is no such object{answer}"
    if code in _REFUSED or status in {"401", "403"} or isinstance(error, PermissionError):
        hint = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the policy of the bucket"
        return AccessError, f"the store refused access{answer}; {hint}"
    if code in _UNKNOWN or status == "501":
        lacks = "create-only writes (If-None-Match); --run.single_writer true does without, if only one driver writes"
        lacks = lacks if operation == "create" else "such requests; check AWS_ENDPOINT_URL"
        return StorageError, f"the store knows no {lacks}{answer}"
    if code in _BUSY or status in {"408", "429"} or status.startswith("5"):
        return TransientError, f"the store is busy or failing{answer}, also after retries; try again later"
    if code in _ELSEWHERE or "incorrectly configured region" in said:
        return StorageError, f"the bucket is in another region{answer}; set AWS_REGION to that one"
    if code == "networkconnection" or _NO_ANSWER.search(said):
        store = (endpoint() or "AWS").rpartition("@")[2]
        hint = "check AWS_ENDPOINT_URL and the network"
        return TransientError, f"no answer from {store}, also after retries; {hint}"
    return StorageError, f"{_excerpt(said)}{answer}"


def _asked_again(uri: str) -> Exception | None:
    """Ask for an object to hear what the store says of it in full; None if it has nothing to say now."""
    import obstore

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        obstore.get(object_store(bucket), key)
    except Exception as error:
        return error if _STATUS.search(str(error)) else None
    return None


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return next(filter(None, found.groups()), "") if found else ""


def _excerpt(said: str) -> str:
    """Keep what a client says before it quotes the request or the store's reply."""
    words = re.split(r"Debug source|<", said)[0].split()
    return re.sub(r"//[^/\s]*@", "//", " ".join(words))[:200]


def _local_fault(error: Exception, uri: str) -> _Fault:
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFoundError, "there is no such file or folder"
    if isinstance(error, PermissionError):
        reason = os.strerror(number or errno.EACCES)
        return AccessError, f"{reason}; check owner and mode of the file and its folders"
    if number in {errno.ESTALE, errno.ETIMEDOUT}:
        return TransientError, f"{os.strerror(number)}; check that the file system is there, then try again"
    if number in {errno.ENOSPC, errno.EDQUOT}:
        path = Path(uri.removeprefix("file://")).absolute()
        disk = next(folder for folder in path.parents if folder.exists())
        free = shutil.disk_usage(disk).free
        return StorageError, f"the disk is full: {free:,} bytes are free on {disk}; make room"
    return StorageError, os.strerror(number) if number else str(error)
