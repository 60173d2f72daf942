"""What stands between the users and an instance on Cloud Run, as a small program of its own.

    users ──HTTP──> front ──> request ──> scheduler ──> unit ──> driver: a process in a cgroup,
                                                                 or a container
    rules.py      the platform's figures and texts, and what is computed from them
    instance.py   what a driver of instances offers
    unit.py       one instance's life: start, ready, CPU withheld, idle, stop, end
    scheduler.py  who is given which instance, who waits, and how many instances there are
    request.py    the story of one request: 429, 503, 504, or its answer
    front.py      HTTP towards the users; upstream.py towards the instance
    events.py     the log of all that happened
    process.py    the driver of processes; cgroup.py and limits.py what limits them
    containers.py the driver that uses Docker

No rule reads a clock but the event loop's, so the tests of rules run on one of their own.
"""
