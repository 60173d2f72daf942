"""The lab, held against simulations that know nothing of it.

A lab that measures and judges by the same ideas may be wrong twice and never notice. Here the
replica's closed network is simulated from how its parts are documented to work, and what the
lab has stored is compared with what the simulation gives for the stage times that were
measured in those very cells.

    oracle        one number of users: latencies, and the most users with whom p95 holds
    oracle_ramp   users that grow: at how many of them p95 passes its bound
    oracle_waits  what each upload waits for at every moment; wait_meter says what that counts for
    simulated     systems whose threshold is known in closed form, for the search alone

The first three use nothing of the lab; a test holds that. Two commands compare stored runs:

    python -m validation.ramp RUN                       a run of experiments/phase-2-gcs.yaml
    python -m validation.thresholds ONE_USER RUN...     searches: `lab threshold SPEC`

RUN is a run's folder, a name's unique prefix, or ``latest``. ONE_USER is a run of one user on
two workers: it shows how often the worker that is woken first takes an upload, which the
simulation has to know. A spec for it:

    experiment: one-user
    preset: as-found
    knobs: {gcs_call: to_thread, workers: 2, speed: 3}
    load: {users: 1, warmup: 5 s, window: 20 min}

Each prints a table with a row for each cell, and ends with 0 where all agree, 1 where one does
not, 2 where the runs cannot be compared (on standard error: what is wrong, and the remedy).
A cell of a ramp takes seconds, one of a search up to a minute.

The tests of all this, and of the search in simulated systems, are `tests.statistics`;
`python -m benchmarks.threshold` is the search in 2,000 of them.

The judge is held by two more. The first draws cells by a seed (`drawn_waits`), writes a spec for
each and what `oracle_waits` says that late uploads wait for there (`expected_waits`), and
compares the runs of them with that:

    python -m validation.waiting --draw 40 --seed 14 --out DIR
    lab run DIR/*.yaml
    python -m validation.waiting --check RUN...

The second draws criteria over every metric, has stored cells judged by them, and holds what is
met against the raw lines, by formulas of its own (`raw_metrics`, `server_counts`):

    python -m validation.contradictions [RUN...] [--cells 200] [--seed 1]
"""
