"""The lab, held against simulations and formulas that know nothing of it.

A lab that measures and judges by the same ideas may be wrong twice and never notice. Here the
replica's closed network is simulated from how its parts are documented to work, and what the
lab has stored is compared with what the simulation gives for the stage times that were
measured in those very cells. What the lab concludes is held against the raw lines, and against
published incidents of which it is known what is right.

    oracle           one number of users: latencies, and the most users with whom p95 holds
    oracle_ramp      users that grow: at how many of them p95 passes its bound
    oracle_waits     what each upload waits for at every moment; wait_meter says whose a wait is
    closed_loop      the oracle's network by one heap of events, for many long loads, with oddities
    simulated        systems whose threshold is known in closed form, for the search by e-values
    systems, peers   systems drawn for every search, and other ways to search
    drawn_waits      cells drawn by a seed over knobs and loads
    expected_waits   what oracle_waits says that late uploads of such a cell wait for
    drawn_limits     combinations of knobs drawn by a seed, and what limits each in oracle_waits
    raw_metrics      every metric, worked out from the stored lines by formulas of its own
    server_counts    failures by cause, as the service itself recorded them
    hostile          requests that no user sends, and what each server must answer
    damage, fresh_run    changes of run folders, and a run as today's lab stores it
    struck           how a process of a running replica is found and struck
    clock_step       a wall clock for the lab's own processes, which a test may set
    look_alikes      what looks like the lab's, made by hand, and has to stay
    command          what the commands share

The oracles use nothing of the lab; a test holds that. Two commands compare stored runs with them:

    python -m validation.ramp RUN                       a run of experiments/phase-2-gcs.yaml
    python -m validation.thresholds ONE_USER RUN...     searches: `lab threshold SPEC`

RUN is a run's folder, a name's unique prefix, or ``latest``. ONE_USER is a run of one user on
two workers, as of validation/one-user.yaml: it shows how often the worker that is woken first
takes an upload, which the simulation has to know.

Six hold the judge and the lab. The first draws cells, writes a spec for each and what is expected
of it, and compares the runs of them with that: does the lab name what late uploads waited for?

    python -m validation.waiting --draw 40 --seed 14 --out DIR
    lab run DIR/*.yaml
    python -m validation.waiting --check RUN...

The second draws criteria over every metric, has stored cells judged by them, and holds what is met
against the raw lines: is anything met that they contradict?

    python -m validation.contradictions [RUN...] [--cells 200] [--seed 1]

The third measures published incidents of others' services, and what looks like them, on the
embedded stack: is each judged as is right?

    python -m validation.incidents [NAME...]

The fourth diagnoses cells whose limit is known, by construction or by a simulation that knows
nothing of the lab: is it proven, and nothing else?

    python -m validation.why [--part constructed ambiguous drawn] [--only GLOB] [--seed 1]
    python -m validation.why --matrix [--stack compose]

The fifth compares pairs of cells of which it is known how they differ, simulated, or measured and
the same: does the interval of a comparison hold the truth?

    python -m validation.pairs [--pairs 1000 | --replica 40] [--seed 1]

The sixth holds the speeds that the lab chooses: are cells of the shipped specs valid at them, and
not at twice as much, and do they tell what speed 1 tells?

    python -m validation.speeds [--parts first twice real] [--only GLOB] [--cells 8]

Four strike at the lab itself. Hostile requests: what do nginx, uvicorn and the gateway answer to
them, and what do healthy users feel of them? Every part of a running replica, a row each: is each
strike noticed within 3 s, by its own cell alone, in the part's name, and is nothing left? SIGKILL
at any moment: is a finished cell lost, measured twice, anything left or taken from others? Run
folders damaged at random: does the lab bear each, in 10 s and 500 MB, with an error on one line?

    python -m validation.requests [--server nginx] [--turns 5]
    python -m validation.strikes [--stack compose] [--only GLOB] [--repeat 10]
    python -m validation.kills [--count 200] [--seed 1]
    python -m validation.damage [--changes 3000] [--seed 1]

Each prints a row for each cell, contradiction or wrong answer, and ends with 0 where all agree, 1
where one does not, 2 where nothing can be compared (on standard error: what is wrong, and the
remedy). A cell of a ramp takes seconds, one of a search up to a minute, an incident a few, a strike
or a kill about 15 s.

A last one searches the thresholds of simulated systems, by the lab's methods and by others: do the
intervals hold the truth as often as they claim, and what load does that take? A system takes some
ten seconds, with the others a minute.

    python -m validation.searches [--systems 600] [--workers 1 2 4] [--family usual heavy] [--peers]

The tests of all this are `tests.statistics`; the incidents are also tests of the replica.
`python -m benchmarks.threshold` is the search by e-values in 2,000 systems in closed form.
"""
