"""A certificate authority of the tests' own, and server certificates that are good, or wrong in one way each."""

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Certificate:
    """A server's certificate and its key, as files in PEM."""

    certificate_file: Path
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        """What a server listens with; HTTP/1.1 only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate_file, self.key_file)
        return context


class Authority:
    """Signs certificates for hosts; `file` is its own certificate, for `tls_ca_file`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._issued = 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("mailvane test authority")
        certificate = (
            _builder(self._name, self._name, self._key, days=(-1, 365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(_SIGNS_CERTIFICATES, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def good(self, names: Sequence[str] = LOCAL) -> Certificate:
        """Valid today for these host names and addresses."""
        return self._issue(names, days=(-1, 30))

    def expired(self) -> Certificate:
        """For this machine's names, but its time ended yesterday."""
        return self._issue(LOCAL, days=(-30, -1))

    def not_yet_valid(self) -> Certificate:
        """For this machine's names, but its time begins tomorrow."""
        return self._issue(LOCAL, days=(1, 30))

    def wrong_host(self) -> Certificate:
        """Valid, but for another host."""
        return self._issue(("elsewhere.example.com",), days=(-1, 30))

    def self_signed(self) -> Certificate:
        """For this machine's names, vouched for by nobody."""
        return self._issue(LOCAL, days=(-1, 30), signed_by_itself=True)

    def _issue(self, names: Sequence[str], days: tuple[int, int], signed_by_itself: bool = False) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(names[0])
        issuer, signer = (subject, key) if signed_by_itself else (self._name, self._key)
        certificate = (
            _builder(subject, issuer, key, days)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            # Python 3.13 and later verify strictly: they want to know which key signed.
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        self._issued += 1
        issued = Certificate(self._folder / f"server-{self._issued}.pem", self._folder / f"server-{self._issued}.key")
        issued.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        issued.key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return issued


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: tuple[int, int]
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
    )
