"""The queue: what keeps an event from the moment it is acknowledged until somebody else has it.

What is promised
    An id that was answered is on disk, and stays there until its event was delivered, dropped by a rule, or deleted by
    a person. Nothing else removes it: no failure, however often, no age, no full disk, no restart. An event may be
    delivered more than once, then with the same id, and only where a crash or a lost answer made it so.

Who is the authority
    The database, and in it one thing: whether the row is there. There is no column for a state, no lease that runs out,
    no clock that decides. What a process remembers (how far a lane has read, what it holds) is a convenience, thrown
    away at its end and built anew from the rows.

The states of an event

        handed in
           |  COMMIT, synced: now the id is answered
           v                                          it failed: a row in `deferred`
        waiting ------------> held ------------------------------> deferred
        (a row in `queue`)    (in the owner's memory, the row         |
           ^                   is as it was)                          |
           |                     |        ^---------------------------+
           |  the owner dies     |               it is due, or a person says `retry`
           +---------------------+
                                 |  settled: delivered or dropped, the row is gone
                                 v
                               gone <--------- deleted by a person, from any state

    *Held* is no state of the row. It spans from reading an event until its outcome is on disk, so that no read, not
    even one that began earlier, brings it a second time. What became of a batch is made durable by one transaction, the
    *settlement*: delivered and dropped rows are removed, failures remembered, the books moved. The books balance in
    every committed state: recorded = delivered + dropped + deleted + waiting.

    Where people want it (`keep_delivered`), a settlement copies what was delivered into a table of its own before it
    removes it. Nothing is delivered from there. A *replay* puts a row back with the id it had, and counts it as
    recorded once more; its id lies below what the owner has read, so the owner does that, and looks for it there.

Who writes
    To a SQLite queue one process at a time writes, the holder of `queue.lock`: a processor for its life, a program that
    records or a command for a moment each (`short`). Whoever finds it held asks the holder (`remote`). In the process
    one thread writes (`writer`); those who hand in while the disk is busy share the next commit. Each owner takes a
    *term*, above every earlier one; a settlement of an older term is refused whole.

What each fault does
    killed before the COMMIT is synced   the producer had no answer and offers again; nothing half-written is seen
    killed after it, before the answer   the event is there; a producer who repeats with its token adds nothing
    killed between a delivery and its    the event is delivered again, with the same id; at most what was in flight
      settlement
    killed while settling                all of the transaction or nothing of it
    a sync fails                         nothing is acknowledged any more by this process, and nothing tried again: the
                                         kernel may have dropped the pages. It has to end; the next one reads the log
    no room                              producers are refused. Settling goes on in the room that the `ballast` gives
                                         back; while it is missing nobody records, or recording would eat that room
    the owner is paused                  nobody takes over from it: the lock is the kernel's, and it lives
    the owner ends or is killed          the kernel gives the lock back; whoever takes it begins at the lowest row
    a person deletes a row               it is counted, and not delivered if it was not yet sent; in flight it settles
                                         as nothing
    a person's shell holds a write       recording waits 30 s, then says for which process
      transaction
    the program forks                    connections are closed before, and opened again by each on its own
    a page or the log is damaged         refused with what to do; `salvage` copies what can be read into a new queue
    another file at the same path        a program that records notices before its next commit, and goes on there
    a newer schema                       is refused, untouched

Where things are
    `contract` is what every store promises, and `tests/queue/conformance.py` holds each to it. `local` is the owner's
    SQLite queue, made of `sqlite` (writing), `reading`, `ballast` and `writer`; SQL is in `sql/` by name, the schema
    in numbered migrations (`migrate`); `sqlite_errors` says what went wrong, `blocking` who is in the way.
"""
