"""What a long-running process has of a queue in PostgreSQL: where it records, its turns at delivering, and others'."""

from collections.abc import Callable

from mailvane.errors import QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.operations.orders import Elsewhere
from mailvane.operations.turns import Begin, Turns
from mailvane.processor.run import Processor
from mailvane.queue.postgresql import PostgreSQLQueue, parse_address
from mailvane.queue.postgresql.rows import PostgreSQLRows
from mailvane.recording.intake import Intake


class AtPostgreSQL:
    """Made in a running event loop; nothing is connected yet. `intake` gives the door that what people record in their
    own transactions goes through, once it is there. Raises BadAddress."""

    def __init__(
        self,
        url: str,
        command: str,
        intake: Callable[[], Intake | None],
        begin: Begin,
        changed: Callable[[Processor | None], None],
    ) -> None:
        self._url = url
        self._command = command
        self._intake = intake
        self.queue = PostgreSQLQueue(parse_address(url), command, self._judge)
        self.elsewhere = Elsewhere(self.queue, url, command)
        self.turns = Turns(url, command, self.queue, begin, changed)

    def rows(self) -> PostgreSQLRows:
        """For a thread: to be closed there."""
        return PostgreSQLRows(self._url, self._command)

    def _judge(self, event: bytes) -> StoredForm | None:
        intake = self._intake()
        if intake is None:
            raise QueueUnavailable("mailvane is starting")
        return intake.form_in(event)
