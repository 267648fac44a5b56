"""Event delivery: reads the queue, picks the destination by the plan in force, delivers, settles.

plan, routing, schedule, circuit, concurrency and states are pure; reader, lane, settle and run move the events.
"""
