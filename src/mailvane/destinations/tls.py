"""TLS as a client speaks it: certificate and host name always checked, 1.2 or later, never less for anybody's sake."""

import ssl


def client_context(ca_file: str = "") -> ssl.SSLContext:
    """Trusts the system's certificates and those of `ca_file` (PEM) beside them.

    Raises OSError (ssl.SSLError among them) if that file cannot be read or has no certificate in it. Revocation lists
    and OCSP are not asked: a name server or an authority that is away stalls no delivery.
    """
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def reason(error: ssl.SSLError) -> str:
    """Why the handshake failed, in OpenSSL's words without its file names and numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is refused: {error.verify_message}"
    return (error.reason or str(error)).lower().replace("_", " ")
