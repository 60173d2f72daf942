"""The gateway of Cloud Run: what stands between the users and an instance, as a program.

    users ──HTTP──> gateway ──> request ──> scheduler ──> handle ──> driver: a process in a cgroup,
                                                                     or a container
    rules.py       the platform's figures and texts, and what is computed from them
    instance.py    what a driver of instances offers, and the log of events
    handle.py      one instance's life: start, ready, CPU withheld, idle, stop, end
    scheduler.py   who is given which instance, who waits, and how many instances there are
    request.py     the story of one request: 429, 503, 504, or its answer
    http.py        HTTP towards the users, and towards an instance
    gateway.py     the settings, the server, and the events that it writes down
    process.py     the driver of processes; cgroup.py is what limits them
    containers.py  the driver that uses Docker
    calibrate.py   whether an instance's limits are kept, by instances that run burden.py

On disk, on the engine and in the environment the gateway goes by the name ``front``. No rule
reads a clock but the event loop's, so the tests of rules run on one of their own.
"""
