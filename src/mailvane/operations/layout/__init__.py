"""GreenArrow's file layout, so that its guide can be typed as it stands: `mailvane layout greenarrow`.

    facts        what of the machine it depends on: where the command is, PostgreSQL's programs
    greenarrow   what is to be there, as data; `scripts` and `units` have the texts. Pure
    laying       looks at what is there, and makes what is missing; `manifest` remembers what was made
    removing     takes away what was made, and nothing else
    database     role and database in a PostgreSQL that somebody else runs
    supervised   whether services are up, and ending them

Nothing is overwritten that was not made here. The database of its own is made by its service, at the first start.
"""
