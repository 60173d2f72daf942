"""The same events as `lab.capacity.engine`, of a plain network, in one loop without calls.

Most cells are plain: a session that is released, queries in the event loop, nobody who is turned
away or cut off. Of these the engine's methods cost more than what they do; here an event is a
moment and a number, and the state is in lists. Both give the same uploads of the same seed.

    user u arrives: u      u's storage call has ended: M + u      worker w goes on: 2 M + w
"""

from __future__ import annotations

from array import array
from heapq import heapify, heappop, heappush, heapreplace

from lab.capacity.network import Network
from lab.capacity.parts import OK, OVERSIZE, Draws, Rows


def is_plain(network: Network, users: int) -> bool:
    """Whether nothing can happen in a network that is not simulated here, but for a time-out."""
    database = network.database
    limits = network.global_limit, network.upload_limit
    return not (
        database.held
        or database.threads
        or not database.pool_size
        or database.slots < network.workers
        or network.gateway
        or users > network.at_once
        or network.max_inflight is not None
        # At most so many come to a worker in such a time: all users, and what its loop carries.
        or any(limit and (limit.count - users) * network.in_loop <= limit.per for limit in limits)
    )


def run_plain(  # noqa: C901 - a call for each step takes half of all time
    network: Network, users: int, draws: Draws, window: tuple[float, float], until: float
) -> tuple[Rows, list[float]] | None:
    """The rows of the uploads that ended in the window, and the seconds that were spent inside.

    None where somebody would have been cut off, so that the engine has to tell.

    Args:
        network: of which `is_plain` holds.
        users: of a closed load.
        draws: its random numbers.
        window: its start and end, in seconds of the simulation; nobody sends after it.
        until: when the simulation ends; infinite: when all that was sent has ended.
    """
    (start, stop), sending = window, users
    stored_at, turn_of = users, 2 * users
    write_of, query_of = 2 * users, users
    rand, draw_storage, draw_turns = draws.uniform, draws.storage, draws.turns
    database, lead, blocks = network.database, network.lead, network.blocks_loop
    asking = database.checkout + database.auth + database.release
    writing, connect = database.checkout + database.write, database.connect
    before, after = network.cpu_before, network.cpu_after
    uplink, spread, oversize = network.uplink, network.network, network.oversize
    think, more_think = network.think[0], network.think[1] - network.think[0]
    backoff, more_backoff = network.backoff[0], network.backoff[1] - network.backoff[0]
    shortest = min(network.proxy_timeout, network.user_timeout)
    shared, fewest = network.balance == "shared_socket", network.balance == "least_conn"
    everybody = range(network.workers)
    accept: list[int] = []
    nothing = iter([0][:0])
    queues = [accept if shared else [] for _ in everybody]
    ready: list[list[int]] = [[] for _ in everybody]
    turns, turn = [0 for _ in everybody], [nothing for _ in everybody]
    later: list[dict[int, list[int]]] = [{} for _ in everybody]
    free = [[0.0] * network.threads for _ in everybody]
    idle, fresh, proxied = [True] * network.workers, [True] * network.workers, [0] * network.workers
    alone, several, resters = [0], network.workers > 1, network.workers
    inside, following = [0.0] * network.workers, 0
    now_inside = [0] * network.workers
    sent, handed, took = [0.0] * users, [0.0] * users, [0.0] * users
    waited, accepted, at = [0.0] * users, [0.0] * users, [0] * users
    rows: Rows = array("d")
    add = rows.extend
    heap: list[tuple[float, int]] = [(float("inf"), -1)]

    def refused(t: float) -> float:
        while next(rand) < oversize and t < stop:
            if start <= t + uplink < until:
                add((t + uplink, uplink, 0.0, -1, OVERSIZE, 0.0, 0.0, 0.0, 0.0, 0.0))
            t += uplink + (backoff + more_backoff * next(rand) if more_backoff else backoff)
        return t

    for user in range(users):
        t = network.ramp * user / users
        sent[user] = t = refused(t) if oversize else t
        handed[user] = t = t + uplink + spread * next(rand)
        heap.append((t, user))
    heapify(heap)
    while sending:
        t, event = heappop(heap)
        if t >= until:
            break
        if event < stored_at:
            w = 0
            if shared:
                accept.append(event)
                if not resters:
                    continue
                resting = [worker for worker in everybody if idle[worker]] if several else alone
                w = resting[-1]
                if len(resting) > 1:
                    if lead:
                        for worker in resting[:-1]:
                            if next(rand) < lead:
                                w = worker
                                break
                    else:
                        w = resting[int(next(rand) * len(resting))]
            else:
                w = following
                if fewest:
                    order = [*everybody[following:], *everybody[:following]]
                    w = min(order, key=proxied.__getitem__)
                following = (w + 1) % network.workers
                proxied[w] += 1
                queues[w].append(event)
                if not idle[w]:
                    continue
            idle[w] = False
            resters -= 1
        elif event < turn_of:
            user = event - stored_at
            w = at[user]
            ready[w].append(user + write_of)
            if not idle[w]:
                continue
            idle[w] = False
            resters -= 1
        else:
            w = event - turn_of
        items, mine, threads = turn[w], later[w], free[w]
        while True:
            for item in items:
                if item < query_of:  # its form is parsed
                    t += before
                    due, item = turns[w] + next(draw_turns), item + query_of
                    if due in mine:
                        mine[due].append(item)
                    else:
                        mine[due] = [item]
                elif item < write_of:  # the first query, and the storage call
                    user = item - query_of
                    if fresh[w]:
                        fresh[w] = False
                        t += connect
                    t += asking
                    took[user] = call = next(draw_storage)
                    if blocks:
                        t += call
                        item = user + write_of
                    else:
                        begun = threads[0]
                        if begun > t:
                            waited[user] = begun - t
                        else:
                            begun, waited[user] = t, 0.0
                        heapreplace(threads, begun + call)
                        heappush(heap, (begun + call, user + stored_at))
                if item >= write_of:  # the second query, and the answer
                    user = item - write_of
                    t += writing
                    t += after
                    now_inside[w] -= 1
                    inside[w] += start if t < start else t if t < stop else stop
                    if fewest:
                        proxied[w] -= 1
                    if t - sent[user] > shortest:
                        return None
                    if start <= t < until:
                        waits = accepted[user] - handed[user], waited[user], 0.0, 0.0, 0.0
                        add((t, t - sent[user], took[user], w, OK, *waits))
                    again = t + (think + more_think * next(rand) if more_think else think)
                    if oversize:
                        again = refused(again)
                    if again < stop:
                        sent[user] = again
                        handed[user] = again = again + uplink + spread * next(rand)
                        heappush(heap, (again, user))
                    else:
                        sending -= 1
                        sent[user] = again
                if heap[0][0] < t:
                    heappush(heap, (t, turn_of + w))
                    turn[w] = items
                    break
            else:
                items_list, queue = ready[w], queues[w]
                turns[w] += 1
                if mine:
                    if not items_list and not queue:
                        turns[w] = min(mine)
                    items_list += mine.pop(turns[w], ())
                if queue:
                    for user in queue:
                        at[user], accepted[user] = w, t
                    items_list += queue
                    count = len(queue)
                    now_inside[w] += count
                    inside[w] -= count * (t if t > start else start)
                    queue.clear()
                if items_list:
                    ready[w], items = [], iter(items_list)
                    continue
                idle[w], turn[w] = True, nothing
                resters += 1
            break
    for w in everybody:
        inside[w] += now_inside[w] * stop
    if until == stop and any(stop - one > shortest for one in sent):
        return None
    return rows, inside
