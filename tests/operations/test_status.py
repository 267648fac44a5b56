"""What the status says."""

import msgspec

from mailvane.configuration.watch import ConfigState
from mailvane.operations.status import Status, status
from mailvane.processor.run import RouteStatus
from mailvane.processor.states import DestinationState
from mailvane.queue.contract import Books


def test_an_error_with_half_a_pair_of_surrogates_is_shown() -> None:
    """A path whose name is no UTF-8: JSON has no way to say it, and the status is JSON."""
    route = RouteStatus("logfile", DestinationState.OK, "/tmp/\udcff.log: Permission denied", 1, 0)
    config = ConfigState("current", None, "")
    shown = status(Books(1, 0, 0, 0), None, 1, 0.0, [route], config)
    (legacy,) = msgspec.json.decode(msgspec.json.encode(shown), type=Status).destinations
    assert legacy.last_error == "/tmp/\ufffd.log: Permission denied"
