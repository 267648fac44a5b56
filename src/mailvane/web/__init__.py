"""The HTTP API, in front of the service that owns the queue.

    bytes ──► protocol ──► guard ──► an address's handler ──► Service
              bounds       who may     addresses.py says which

`addresses` declares every address once: the routes, the rules of who may and `/openapi.json` are made from it. What a
client can do to the process is bounded in `protocol` (time, size, number of connections), before anything is judged.
"""
