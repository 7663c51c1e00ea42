"""What can be wrong with an archive, or with the store that it comes from, in sentences that name the way out.

It imports nothing: what starts a model calls it before it knows whose handlers it will run.
"""

import re
from collections.abc import Iterator, Mapping

# By the code of S3's error (Amazon S3 API reference, "Error responses"), or by the class of the client's exception.
_CREDENTIALS = (
    "the credentials are refused: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or AWS_PROFILE"
)
_NO_CREDENTIALS = (
    "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a "
    "role"
)
_RIGHTS = (
    "these credentials may not do it: they need s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there"
)
_BUCKET = "there is no such bucket: make it, or name another one by MARLOOP_MODEL_STORE"
_REGION = "the bucket is in another region: name it by AWS_DEFAULT_REGION"
_SILENT = "nothing answers there: check AWS_ENDPOINT_URL and the network"
_UNCONDITIONAL = (
    "the server knows no conditional writes (If-Match), without which two writers could lose each other's changes: "
    "take another server, or MARLOOP_REGISTRY=database"
)
_WAYS: Mapping[str, str] = {
    "NoCredentialsError": _NO_CREDENTIALS,
    "PartialCredentialsError": _NO_CREDENTIALS,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "AccessDenied": _RIGHTS,
    "AllAccessDisabled": _RIGHTS,
    "403": _RIGHTS,
    "NoSuchBucket": _BUCKET,
    "InvalidBucketName": _BUCKET,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "301": _REGION,
    "RequestTimeTooSkewed": "the clocks of this machine and of the server differ by more than 15 minutes: set ours",
    "NotImplemented": _UNCONDITIONAL,
    "501": _UNCONDITIONAL,
    "EndpointConnectionError": _SILENT,
    "ConnectTimeoutError": _SILENT,
    "ConnectionClosedError": _SILENT,
    "ReadTimeoutError": "the server takes too long to answer: check AWS_ENDPOINT_URL and the network",
    "NoSuchKey": "it is not there",
    "404": "it is not there",
    "FileNotFoundError": "it is not there",
}


class ArchiveError(Exception):
    """An archive is missing, cannot be read or is not the one that was registered; the message names it."""


def shown(url: str) -> str:
    """Return a URL without what in it may be secret: user and password, and the query of a signed one."""
    return re.sub(r"(?<=://)[^/@]*@", "", url.partition("?")[0])


def reason(error: BaseException) -> str:
    """Return why a file of a store could not be read or written, with the way out where one is known."""
    for link in _chain(error):
        for name in (code_of(link), *(kind.__name__ for kind in type(link).__mro__)):
            if name in _WAYS:
                return _WAYS[name]
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def code_of(error: BaseException) -> str:
    """Return the code in S3's answer that an exception or its cause holds, such as ``NoSuchKey``; empty for others."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that caused it."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__
