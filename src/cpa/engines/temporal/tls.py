"""TLS to the server: what we show it, what we ask of it, and why it did not come about.

The client library says in its own words that a connection failed, and of a refused certificate of ours only that
the server hung up. So what can be wrong with our files is looked at before; and after a failure one more handshake,
by Python itself and without a certificate of ours, finds out what the server is and what it asks for.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from temporalio.service import TLSConfig

from cpa.errors import BadInput, CPAError, Unavailable

HANDSHAKE = 5.0
"""Seconds for the handshake that asks why."""
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client begins HTTP/2: a server that lets us in answers it."""
_EXPIRED, _NAMES = 10, (62, 64)
"""OpenSSL's numbers: the certificate is over; it is for another name, or another address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What is set about it."""

    authorities: Path | None = None
    """PEM file of those who may have signed the server's certificate; None trusts those of this machine."""
    certificate: Path | None = None
    """PEM file of ours, with those in between."""
    key: Callable[[], str] | None = None
    """Its private key as PEM, resolved at each connection."""
    name: str = ""
    """The server's name, when it is not the one in the address."""

    def config(self) -> TLSConfig:
        """For the client library. `BadInput` naming the setting that cannot be right."""
        authorities = certificate = key = None
        if self.authorities is not None:
            authorities = _certificates(self.authorities, "temporal_tls_ca")[1]
        if self.certificate is not None and self.key is not None:
            found, certificate = _certificates(self.certificate, "temporal_tls_cert")
            _check_period(found[0], self.certificate)
            key = self.key().encode()
            _check_pair(found[0], key, self.certificate)
        return TLSConfig(
            server_root_ca_cert=authorities,
            domain=self.name or None,
            client_cert=certificate,
            client_private_key=key,
        )


def _certificates(path: Path, field: str) -> tuple[list[x509.Certificate], bytes]:
    try:
        content = path.read_bytes()
        return x509.load_pem_x509_certificates(content), content
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError:
        reason = "it holds no certificate in PEM form"
    raise BadInput(
        f"the file {path} cannot be used: {reason}",
        field=field,
        value=str(path),
        remedy=f"name a PEM file with certificates in CPA_{field.upper()}",
    )


def _check_period(certificate: x509.Certificate, path: Path) -> None:
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if since <= datetime.now(UTC) <= until:
        return
    raise BadInput(
        f"our certificate {path} is valid from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC, and not now",
        field="temporal_tls_cert",
        value=str(path),
        remedy="get a new one from who signs them, and put it there with its key",
    )


def _check_pair(certificate: x509.Certificate, key: bytes, path: Path) -> None:
    try:
        ours = load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError) as error:
        raise BadInput(
            "the private key of our certificate is none in PEM form without a password",
            field="temporal_tls_key",
            remedy="store it unencrypted as that secret: its file is readable for us alone",
        ) from error
    if ours != certificate.public_key():
        raise BadInput(
            "the private key is not that of our certificate",
            field="temporal_tls_key",
            value=str(path),
            remedy="name a certificate and the secret of its own key",
        )


# -- why not -------------------------------------------------------------------------------------------------


async def refusal(address: str, tls: Tls | None) -> CPAError | None:
    """Why a server that can be reached does not talk with us; None when that has nothing to do with TLS."""
    try:
        async with asyncio.timeout(HANDSHAKE):
            if tls is None:
                return await _speaks_tls(address)
            return await _refusal(address, tls)
    except (OSError, TimeoutError, ValueError):
        return None


async def _refusal(address: str, tls: Tls) -> CPAError | None:
    host, port = address.rsplit(":", 1)
    context = ssl.create_default_context(cafile=tls.authorities)
    context.set_alpn_protocols(["h2"])
    # A refusal of the network is no matter of TLS.
    _, probe = await asyncio.open_connection(host, int(port))
    probe.transport.abort()
    try:
        reader, writer = await asyncio.open_connection(
            host, int(port), ssl=context, server_hostname=tls.name or host
        )
    except ssl.SSLCertVerificationError as error:
        return _not_trusted(error, address, tls)
    except (ssl.SSLError, ConnectionResetError) as error:
        return _no_tls(address, error)
    try:
        writer.write(_HELLO)
        welcome = await reader.read(1)
    except OSError:
        welcome = b""
    finally:
        writer.transport.abort()
    return None if welcome else _asks_for_more(address, tls)


async def _speaks_tls(address: str) -> CPAError | None:
    """Of a server that was spoken to in plain words."""
    host, port = address.rsplit(":", 1)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    writer.transport.abort()
    return BadInput(
        f"the Temporal server {address} speaks TLS, and we do not",
        field="temporal_tls",
        value=False,
        remedy="set CPA_TEMPORAL_TLS=true, and CPA_TEMPORAL_TLS_CA if its certificate is signed by an authority "
        "of your own",
    )


def _not_trusted(error: ssl.SSLCertVerificationError, address: str, tls: Tls) -> CPAError:
    if error.verify_code == _EXPIRED:
        return Unavailable(
            f"the certificate of the Temporal server {address} has expired",
            field="temporal_address",
            value=address,
            remedy="have it renewed at the server; jobs wait until then",
        )
    if error.verify_code in _NAMES:
        name = tls.name or address.rsplit(":", 1)[0]
        return BadInput(
            f"the certificate of the Temporal server {address} is not for {name!r}",
            field="temporal_tls_server_name",
            value=name,
            remedy="set CPA_TEMPORAL_TLS_SERVER_NAME to the name in its certificate, if it is the right server",
        )
    return BadInput(
        f"the certificate of the Temporal server {address} is signed by nobody we trust: {error.verify_message}",
        field="temporal_tls_ca",
        value=str(tls.authorities or "the authorities of this machine"),
        remedy="name the PEM file of the authority that signed it in CPA_TEMPORAL_TLS_CA",
    )


def _no_tls(address: str, error: OSError) -> CPAError:
    reason = getattr(error, "reason", None) or "it hung up"
    return BadInput(
        f"the Temporal server {address} does not speak TLS with us: {reason}",
        field="temporal_tls",
        value=True,
        remedy="set CPA_TEMPORAL_TLS=false for a server without TLS, or the address of its TLS port",
    )


def _asks_for_more(address: str, tls: Tls) -> CPAError:
    """Its own certificate is good, and without one of ours it hangs up."""
    if tls.certificate is None:
        return BadInput(
            f"the Temporal server {address} asks for a certificate of ours",
            field="temporal_tls_cert",
            remedy="name the PEM file in CPA_TEMPORAL_TLS_CERT, and the secret of its key in CPA_TEMPORAL_TLS_KEY",
        )
    return BadInput(
        f"the Temporal server {address} does not accept our certificate",
        field="temporal_tls_cert",
        value=str(tls.certificate),
        remedy="use one that is signed by an authority the server trusts, and that it has not revoked",
    )
