"""Every address of the API, once."""

from mailvane.events.catalogue import Event
from mailvane.operations.inspection import Query, Shown
from mailvane.operations.parts import Acted
from mailvane.operations.status import Status
from mailvane.web import events, health, inspect, switches
from mailvane.web.declaring import Address, Body, Outcome, Parameter

_QUERY = (
    Parameter("id", "these events", "integer", several=True),
    Parameter("type", "events of these types", several=True),
    Parameter("email", "of this address; * stands for any characters"),
    Parameter("list", "of this list (listid)"),
    Parameter("since", "that happened then or later, seconds since the Unix epoch", "integer"),
    Parameter("until", "that happened before, seconds since the Unix epoch", "integer"),
    Parameter("state", "waiting, in_flight, deferred or left; or delivered: those that keep_delivered keeps"),
    Parameter("destination", "bound for this destination, as the status names it; __legacy__ for any"),
    Parameter("delivered_since", "that are kept, and were delivered then or later (seconds)", "integer"),
    Parameter("delivered_until", "that are kept, and were delivered before (seconds)", "integer"),
)
_PART = (
    Parameter("after", "those with larger ids than this: the `next` of the part before", "integer"),
    Parameter("upto", "those with ids up to this; what is there now if not given", "integer"),
    Parameter("limit", "at most so many, 1 to 1,000; all if not given", "integer"),
    Parameter("dry_run", "true: answers how many it would be, and does nothing"),
)

ADDRESSES: tuple[Address, ...] = (
    Address(
        method="POST",
        path="/v1/events",
        name="record",
        about="Records events: one object, an array, or one object a line, at most 1,000 and 1 MiB",
        handler=events.record,
        parameters=(Parameter("token", "repeated with the same token within two minutes, nothing is recorded twice"),),
        body=Body(Event, many=True),
        outcomes=(
            Outcome(202, "all that is recorded is on disk", events.Recorded),
            Outcome(422, "an event is wrong; none was recorded", events.AllRejected),
        ),
    ),
    Address(
        method="GET",
        path="/v1/events",
        name="list",
        about="Events in the queue, a page at a time, in the order of their ids",
        handler=inspect.select,
        parameters=(
            *_QUERY,
            Parameter("after", "with larger ids than this: the `next` of the page before", "integer"),
            Parameter("limit", "at most so many, 1 to 1,000; 100 if not given", "integer"),
        ),
        outcomes=(Outcome(200, "a page; it ends early where it would pass 1 MiB", inspect.Page),),
    ),
    Address(
        method="GET",
        path="/v1/events/count",
        name="count",
        about="How many events in the queue are meant",
        handler=inspect.count,
        parameters=_QUERY,
        outcomes=(Outcome(200, "their number", inspect.Counted),),
    ),
    Address(
        method="GET",
        path="/v1/events/{id:int}",
        name="show",
        about="One event in the queue, or kept after it was delivered, with what is known of its attempts",
        handler=inspect.show,
        parameters=(Parameter("id", "the event's id", "integer", in_path=True),),
        outcomes=(Outcome(200, "the event", Shown),),
    ),
    Address(
        method="POST",
        path="/v1/events/retry",
        name="retry",
        about="Makes deferred events due at once, and closes open circuits",
        handler=inspect.retry,
        parameters=_PART,
        body=Body(Query),
        outcomes=(Outcome(200, "how many became due", Acted),),
    ),
    Address(
        method="POST",
        path="/v1/events/drop",
        name="drop",
        about="Deletes events from the queue for good",
        handler=inspect.drop,
        parameters=_PART,
        body=Body(Query),
        outcomes=(Outcome(200, "how many were deleted", Acted),),
    ),
    Address(
        method="POST",
        path="/v1/events/replay",
        name="replay",
        about="Delivers events again that were delivered and are kept (`keep_delivered`), with the ids they had",
        handler=inspect.replay,
        parameters=_PART,
        body=Body(Query),
        outcomes=(Outcome(200, "how many are in the queue again", Acted),),
    ),
    Address(
        method="POST",
        path="/v1/events/pause",
        name="pause",
        about="Sends nothing more to a destination until it is resumed; holds over restarts",
        handler=inspect.pause,
        body=Body(inspect.Named),
        outcomes=(Outcome(200, "the destinations that are paused now", inspect.Chosen),),
    ),
    Address(
        method="POST",
        path="/v1/events/resume",
        name="resume",
        about="Sends to a paused destination again",
        handler=inspect.resume,
        body=Body(inspect.Named),
        outcomes=(Outcome(200, "the destinations that were resumed", inspect.Chosen),),
    ),
    Address(
        method="POST",
        path="/v1/switches/studio",
        name="switch_studio",
        about="Says which of Studio's events are recorded from now on, as an UPDATE of s_system_configs does",
        handler=switches.switch_studio,
        body=Body(switches.StudioStates),
        outcomes=(Outcome(200, "all of Studio's switches", switches.StudioStates),),
    ),
    Address(
        method="GET",
        path="/v1/status",
        name="status",
        about="The status report, as `mailvane events status --json` prints it",
        handler=health.status,
        outcomes=(Outcome(200, "the report", Status),),
    ),
    Address(
        method="GET",
        path="/healthz",
        name="healthz",
        about="200 as long as the process answers",
        handler=health.healthz,
        outcomes=(Outcome(200, "it does", health.Alive),),
        open=True,
    ),
    Address(
        method="GET",
        path="/readyz",
        name="readyz",
        about="200 once events are taken, 503 until then and while the queue is away",
        handler=health.readyz,
        outcomes=(
            Outcome(200, "events are taken", health.Ready),
            Outcome(503, "they are not; `error` says why", health.Ready),
        ),
        open=True,
    ),
    Address(
        method="GET",
        path="/metrics",
        name="metrics",
        about="Figures for Prometheus, in its text format",
        handler=health.metrics,
        outcomes=(Outcome(200, "the figures", None),),
    ),
)
