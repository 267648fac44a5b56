"""Which destination types pass the common suite, which cases it has, and why a case cannot apply to a type. Data alone.

A type that is new gets a row here, and whoever stands at its far end a place in `far_ends.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mailvane.destinations.contract import Failure, HttpPost, LogFile, SqlStatement


class Case(StrEnum):
    """What is asked of every type; the functions of `cases.py` have these names."""

    DELIVERS = "delivers"
    RETRIES = "retries"
    KILLED = "SIGKILL between success and removal"
    MEMORY = "bounded memory"
    CREDENTIALS = "refused credentials"
    UNREACHABLE = "unreachable"
    SLOW = "slow"
    WRONG_ANSWER = "wrong answer"
    POISON = "poison event"


MEANING = {
    Case.DELIVERS: "events arrive as they were recorded, each once, and leave the queue",
    Case.RETRIES: "what fails is tried again when its time has come, and arrives",
    Case.KILLED: "the process is killed after the destination has an event and before the queue has forgotten it: the"
    " event comes again under the same id, and none is lost",
    Case.MEMORY: "a backlog far larger than what may be in hand arrives whole, and the process stays small",
    Case.CREDENTIALS: "a wrong password or token: told, without the secret; all arrives when it is corrected",
    Case.UNREACHABLE: "nothing is there: the circuit opens, recording goes on, all arrives when it is back",
    Case.SLOW: "no answer in time: the attempt ends, other destinations go on, all arrives when it is fast again",
    Case.WRONG_ANSWER: "what is there answers, but not as it should: a failure, and all arrives when that has changed",
    Case.POISON: "an event that the destination will not have waits alone, the others go through",
}


@dataclass(frozen=True)
class Kind:
    """A destination type in one of its forms.

    `key`: its `type` in event_processor.json; `target`: what the configuration makes of it. `fails` has the class of
    failure that a case leads to (a log file that hangs has not failed, so there SLOW has none); `reasons` has why a
    case cannot apply.
    """

    name: str
    key: str
    target: type
    fails: Mapping[Case, Failure] = field(default_factory=dict[Case, Failure])
    reasons: Mapping[Case, str] = field(default_factory=dict[Case, str])


_HTTP = {
    Case.RETRIES: Failure.SERVER,
    Case.CREDENTIALS: Failure.REFUSED,
    Case.UNREACHABLE: Failure.CONNECT,
    Case.SLOW: Failure.TIMEOUT,
    Case.WRONG_ANSWER: Failure.PROTOCOL,
    Case.POISON: Failure.REFUSED,
}
_FORM = {**_HTTP, Case.WRONG_ANSWER: Failure.NOT_OK}
_SQL = {
    Case.RETRIES: Failure.REFUSED,
    Case.CREDENTIALS: Failure.REFUSED,
    Case.UNREACHABLE: Failure.CONNECT,
    Case.SLOW: Failure.TIMEOUT,
    Case.WRONG_ANSWER: Failure.PROTOCOL,
    Case.POISON: Failure.EVENT,
}
_FILE: dict[Case, Failure] = dict.fromkeys((Case.RETRIES, Case.UNREACHABLE, Case.WRONG_ANSWER), Failure.UNWRITABLE)
_NO_LOGIN = "a file asks for no credentials; who may write it is the operating system's"
_NO_SERVER = (
    "no SQL Server is started by the tests: its protocol is tested against a stand-in, in"
    " tests/destinations/test_sql_mssql.py"
)

KINDS = (
    Kind("http_post: JSON, http", "http_post", HttpPost, _HTTP),
    Kind("http_post: JSON, https", "http_post", HttpPost, _HTTP),
    Kind("http_post: form, http", "http_post", HttpPost, _FORM),
    Kind("http_post: form, https", "http_post", HttpPost, _FORM),
    Kind("mysql: MariaDB", "mysql", SqlStatement, _SQL),
    Kind("custom_sql: MariaDB by a DBI string", "custom_sql", SqlStatement, _SQL),
    # What is no answer to its first question, whether it speaks TLS, is told as that.
    Kind("postgresql", "postgresql", SqlStatement, _SQL),
    Kind(
        "sqlite",
        "sqlite",
        SqlStatement,
        {case: _SQL[case] for case in _SQL if case is not Case.CREDENTIALS} | {Case.WRONG_ANSWER: Failure.SERVER},
        {Case.CREDENTIALS: _NO_LOGIN},
    ),
    Kind("mssql", "mssql", SqlStatement, reasons=dict.fromkeys(Case, _NO_SERVER)),
    Kind(
        "logfile",
        "logfile",
        LogFile,
        _FILE,
        {
            Case.CREDENTIALS: _NO_LOGIN,
            Case.POISON: "a file takes every line: there is no event that it would refuse and not the next",
        },
    ),
)
