"""The gateway of Cloud Run: what stands between the users and an instance, as a program.

    users ──HTTP──> gateway ──> request ──> scheduler ──> handle ──> driver: a process in a cgroup,
                                                                     or a container
    rules.py       the platform's figures and texts, and what is computed from them
    instance.py    what a driver of instances offers, and the log of events
    handle.py      one instance's life: start, ready, CPU withheld, idle, stop, end
    scheduler.py   which request gets which instance, which waits, how many instances there are
    request.py     the way of a request: 429, 503, 504, or its answer
    http.py        HTTP with the users, and with an instance
    gateway.py     the settings, the server, and the events that it writes down
    process.py     the driver of processes; cgroup.py is what limits them
    containers.py  the driver that uses Docker
    calibrate.py   whether an instance's limits hold, tested on instances that run burden.py

On disk, on the engine and in the environment the gateway is called ``front``. Rules read no
clock but the event loop's, so that their tests can run on a simulated clock.
"""
