"""Presigned URLs: strip the signature from the query, as it differs each time the same object is signed.

Sources: the signing documentation of Amazon S3 (versions 2 and 4) and CloudFront, Google Cloud Storage (2 and 4), Azure
Blob Storage (SAS) and Alibaba Cloud OSS.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from airflow_provider_kirin.api.redaction import is_web_url

#: S3, GCS and OSS, version 4: prefixes of all signature parameters.
_PREFIXES = ("x-amz-", "x-goog-", "x-oss-")
#: CloudFront, and the version 2 of S3, GCS and OSS.
_SIGNATURE = frozenset(
    {
        *("signature", "expires", "policy", "key-pair-id", "hash-algorithm"),
        *("awsaccesskeyid", "googleaccessid", "ossaccesskeyid", "x-amz-security-token", "security-token"),
    }
)
#: Azure's shared access signatures.
_SAS = frozenset(
    {
        *("sv", "ss", "srt", "sr", "sp", "st", "se", "sip", "spr", "si", "sig", "sdd", "ses"),
        *("skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid"),
    }
)


def without_signature(text: str) -> str:
    """Return a URL without its signature parameters; any other string, or a URL that is not signed, unchanged.

    :param text: any string
    """
    if "?" not in text or not is_web_url(text):
        return text
    parts = urlsplit(text)
    pairs = parts.query.split("&")
    names = [unquote_plus(pair.partition("=")[0]).lower() for pair in pairs]
    kept = [pair for pair, name in zip(pairs, names, strict=True) if not _is_signature(name, names)]
    return text if len(kept) == len(pairs) else urlunsplit(parts._replace(query="&".join(kept)))


def _is_signature(name: str, names: Iterable[str]) -> bool:
    """Return whether a parameter belongs to a signature: ``expires`` alone may mean anything."""
    for prefix in _PREFIXES:
        if name.startswith(prefix) and f"{prefix}signature" in names:
            return True
    return (name in _SIGNATURE and "signature" in names) or (name in _SAS and {"sig", "sv"}.issubset(names))
