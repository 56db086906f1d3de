"""Which certificates are trusted.

Those of the distribution, to which sites add their own, and if these do not do, those of the library; unless the user
names others. Not `ssl.create_default_context`: since Python 3.13 it refuses certificates that
break RFC 5280 in details, as those of many a site do.
"""

import os
import ssl

from chimage_core.errors import RegistryError

_DIRECTORY = "/etc/ssl/certs"
"""Debian, SUSE and others: certificates under the hashes of their names, so that only what is needed is read."""
_BUNDLES = (
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, Red Hat
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/certs/ca-certificates.crt",  # Arch, Gentoo
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",  # Alpine
)


def make_context(ca_bundle: str | None, *, verify: bool) -> ssl.SSLContext:
    """Return a context for clients. Raises RegistryError if the certificates that a user named cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_bundle is not None:
        _trust(context, ca_bundle)
    elif _is_hashed(_DIRECTORY):
        context.load_verify_locations(capath=_DIRECTORY)
    else:
        for path in _BUNDLES:
            if os.access(path, os.R_OK):
                context.load_verify_locations(path)
                break
    return context


def trust_library(context: ssl.SSLContext) -> None:
    """Trust the certificates that come with the library, too. They take 30 ms to read, and few need them."""
    import certifi

    context.load_verify_locations(certifi.where())


def _is_hashed(directory: str) -> bool:
    try:
        return any(name.endswith(".0") for name in os.listdir(directory))
    except OSError:
        return False


def _trust(context: ssl.SSLContext, path: str) -> None:
    is_directory = os.path.isdir(path)
    try:
        context.load_verify_locations(cafile=None if is_directory else path, capath=path if is_directory else None)
    except (OSError, ssl.SSLError) as error:
        raise RegistryError(
            f"can't read certificates: {path}: {getattr(error, 'strerror', None) or error}",
            hint="look at --cacert, $SSL_CERT_FILE, $REQUESTS_CA_BUNDLE, $CURL_CA_BUNDLE, $SSL_CERT_DIR",
        ) from None
