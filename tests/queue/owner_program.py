"""A process that owns a queue and does what it is told: a JSON command a line on standard input, an answer for each."""

import asyncio
import json
import sys
from pathlib import Path

from mailvane.errors import QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.events.codecs import stored_form
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import Failed, Filter, Settlement
from mailvane.queue.local import SQLiteQueue
from mailvane.queue.ownership import Lock


async def act(queue: SQLiteQueue, command: str, argument: int) -> object:
    match command:
        case "append":
            event = Event(event_type="bounce_all", event_time=1, email="user@example.com", bounce_text="x" * 900)
            return await queue.append([stored_form(event)] * argument)
        case "settle":  # the lowest ones as delivered
            ids = [row.id for row in await queue.select(Filter(), 0, argument)]
            return (await queue.settle(Settlement(delivered=ids), queue.term)).delivered
        case "keep":  # delivered events, for so many seconds
            queue.keep_delivered = argument * 1_000
            return None
        case "kept":
            return await queue.count_delivered(Filter())
        case "fail":
            failed = [Failed(row.id, 1, 1, "timeout") for row in await queue.select(Filter(), 0, argument)]
            await queue.settle(Settlement(failed=failed), queue.term)
            return len(failed)
        case "waiting":
            assert (await queue.books()).waiting == await queue.count(Filter())
            return (await queue.books()).waiting
        case "full":
            return queue.full
        case "rest":  # until the room that may be given back is
            while (giving_back := queue._upkeep.giving_back) and not giving_back.done():  # pyright: ignore[reportPrivateUsage]
                await giving_back
            return None
        case "upkeep":
            return await queue.upkeep()
        case _:
            raise ValueError(command)


async def main(home: Path) -> None:
    lock = Lock(str(home / "queue.lock"), "mailvane run")
    while not lock.take():
        await asyncio.sleep(0.01)
    queue = SQLiteQueue(str(home / "queue.db"), Ballast(str(home / "ballast")), asyncio.get_running_loop())
    print(json.dumps("ready"), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command, argument = json.loads(line)
        try:
            answer = await act(queue, command, argument)
        except QueueUnavailable as e:
            answer = {"unavailable": str(e)}
        print(json.dumps(answer), flush=True)
    await queue.close()
    lock.release()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
