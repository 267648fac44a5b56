"""From a statement's configuration to a connection: secrets read, the host's addresses judged, TLS prepared."""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace

from mailvane.destinations import tls
from mailvane.destinations.addresses import Policy, Resolver
from mailvane.destinations.contract import Database, Failure, SqlStatement
from mailvane.destinations.dial import Limits, NoConnection, addresses
from mailvane.destinations.dsn import BadDsn, Dsn, Tls, parse_dsn
from mailvane.destinations.placeholders import parse_statement
from mailvane.destinations.sql_driver import Open, Place, Problem, Session, missing_driver
from mailvane.destinations.sql_values import Kind, kind_of
from mailvane.errors import MailvaneError

SECRET_LENGTH = 4
"""What is shorter is not masked in texts: it would turn up in them by chance."""

log = logging.getLogger(__name__)


def driver_of(database: Database) -> Open:
    """The driver for a kind of database, imported when it is needed. Raises Problem if it is not installed."""
    match database:
        case Database.POSTGRESQL:
            from mailvane.destinations.sql_postgresql import open_postgresql

            return open_postgresql
        case Database.MYSQL:
            from mailvane.destinations.sql_mysql import open_mysql

            return open_mysql
        case Database.SQLITE:
            from mailvane.destinations.sql_sqlite import open_sqlite

            return open_sqlite
        case Database.MSSQL:
            if why := missing_driver(database):
                raise Problem(Failure.REFUSED, why)
            from mailvane.destinations.sql_mssql import open_mssql

            return open_mssql


class Connector:
    """Opens sessions of one destination. `secrets` are those of the last one, for texts to be without them."""

    def __init__(
        self,
        spec: SqlStatement,
        policy: Policy,
        resolver: Resolver,
        reveal: Callable[[str], str],
        tls_ca_file: str,
        limits: Limits,
    ) -> None:
        self._spec = spec
        self._policy = policy
        self._resolver = resolver
        self._reveal = reveal
        self._tls_ca_file = tls_ca_file
        self._limits = limits
        self._statement = parse_statement(spec.sql, spec.database)
        self._kinds: list[Kind] = [kind_of(name) for name in spec.bind]
        self.secrets: tuple[str, ...] = ()

    def _dsn(self) -> Dsn:
        """Where the database is, secrets read anew. Raises Problem."""
        spec = self._spec
        try:
            text, user, password = self._reveal(spec.dsn), self._reveal(spec.username), self._reveal(spec.password)
        except MailvaneError as error:
            raise Problem(Failure.CONNECT, str(error)) from None
        try:
            dsn = parse_dsn(text)
        except BadDsn as error:
            raise Problem(Failure.REFUSED, f"db_dsn: {error}") from None
        if dsn.database is not spec.database:
            raise Problem(Failure.REFUSED, f"db_dsn leads to {dsn.database}, the destination is for {spec.database}")
        dsn = replace(dsn, user=user or dsn.user, password=password or dsn.password)
        # The longest first: one may stand in another.
        secrets = {dsn.password, text if text != spec.dsn else ""}
        self.secrets = tuple(sorted((s for s in secrets if len(s) >= SECRET_LENGTH), key=len, reverse=True))
        return dsn

    async def open(self) -> Session:
        """Connects to the addresses that may be reached, one after the other. Raises Problem."""
        dsn = self._dsn()
        open_session = driver_of(dsn.database)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.connect
        tried = await self._addresses(dsn)
        for left in range(len(tried), 0, -1):
            place = Place(dsn, tried[-left], self._context(dsn))
            where = dsn.socket or (f"{place.address} port {dsn.port}" if place.address else dsn.name)
            try:
                async with asyncio.timeout(max(0.0, deadline - loop.time()) / left):
                    return await open_session(place, self._statement, self._kinds)
            except TimeoutError:
                problem = Problem(Failure.CONNECT, f"no connection to {where} within {self._limits.connect:.3g} s")
            except ssl.SSLError as error:
                problem = Problem(Failure.TLS, f"{dsn.host}: {tls.reason(error)}")
            except OSError as error:
                failure = Failure.TLS if error.errno is None and place.tls is not None else Failure.CONNECT
                problem = Problem(failure, f"{where}: {os.strerror(error.errno) if error.errno else error}")
            except Problem as found:
                problem = found
            if left == 1 or problem.failure not in {Failure.CONNECT, Failure.RESET}:
                raise problem from None
            log.debug("%s; trying the next address of %s", problem.text, dsn.host)
        raise AssertionError("a host has at least one address")

    async def _addresses(self, dsn: Dsn) -> Sequence[str]:
        if not dsn.host:
            return [""]
        seconds = min(self._limits.resolve, self._limits.connect)
        try:
            found, _ = await addresses(self._policy, self._resolver, dsn.host, dsn.port, seconds, http=False)
        except NoConnection as none:
            raise Problem(none.failure, none.text) from None
        return found

    def _context(self, dsn: Dsn) -> ssl.SSLContext | None:
        if dsn.tls is Tls.DISABLE:
            return None
        verify = dsn.tls in {Tls.VERIFY_CA, Tls.VERIFY_FULL}
        files = [file for file in (dsn.ca_file, self._tls_ca_file) if file]
        try:
            return tls.database_context(dsn.host, verify, dsn.tls is Tls.VERIFY_FULL, files)
        except OSError as error:
            raise Problem(Failure.TLS, f"{' or '.join(files)}: {error.strerror or error}") from None
