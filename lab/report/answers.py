"""A run's answer, composed from nothing but what is stored of its cells.

    kind of question ─> its rule ─> claims, each with its figures ─> what is left open

A rule is a small pure function with the templates of its sentences beside it (see
`lab.report.phrases`); ``@rule`` names the question that it answers. It is given the cells
that the lab can vouch for; an invalid cell reaches none, and is named at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil

from lab.judge.leaks import MIN_WINDOW_S, QUANTITIES
from lab.model.criterion import Criterion
from lab.model.experiment import Question
from lab.model.load import window_of_spec
from lab.model.physics import pool_connections
from lab.model.replica import nginx_limits
from lab.model.run import Answer, CellResult, Claim, Summary
from lab.model.units import PRESET
from lab.model.verdict import Crossing, Leak, Outcome, Timeline
from lab.report import format
from lab.report.advice import advice
from lab.report.phrases import (
    claim,
    finding_on,
    held_against,
    knobs_of,
    limits,
    listed,
    of_all,
    stated,
)

Cells = Sequence[CellResult]
Rule = Callable[[Cells], list[Claim]]

RULES: dict[Question, Rule] = {"advice": advice}
"""The rules by the question that they answer; those of this module put themselves in."""

NOTHING = Claim(text="No cell was measured so that the lab can vouch for it: nothing is claimed.")


def answered(summary: Summary, kind: Question) -> Summary:
    """A run with its answer."""
    return summary.model_copy(update={"answer": answer(summary, kind)})


def answer(summary: Summary, kind: Question) -> Answer:
    """The answer that the finished cells of a run give to a kind of question."""
    valid = [cell for cell in summary.cells if cell.verdict is not Outcome.INVALID]
    measured = [cell for cell in valid if cell.metrics.get(format.of_main("attempts", cell))]
    claims = RULES[kind](measured) if measured else [NOTHING]
    return Answer(kind=kind, claims=(*claims, *_left_open(summary)))


def _left_open(summary: Summary) -> list[Claim]:
    """The cells that are invalid or undecided, and those not measured."""
    claims = [said for outcome in OPEN for said in _open(summary, outcome)]
    if summary.missing:
        claims.append(Claim(text=f"Not measured: {', '.join(summary.missing)}."))
    if summary.damaged:
        names = ", ".join(cell.id for cell in summary.damaged)
        claims.append(Claim(text=f"Damaged, and not read: {names}."))
    return claims


OPEN = {
    Outcome.INVALID: ("is invalid and says nothing", "are invalid and say nothing"),
    Outcome.UNDECIDED: ("is undecided as a whole", "are undecided as a whole"),
}
"""What is said of a cell that gives no answer, and of several."""


def _open(summary: Summary, outcome: Outcome) -> Iterator[Claim]:
    """A sentence for each reason why cells came out like this, which several may have."""
    by_reason: dict[str, list[Claim]] = {}
    for cell in summary.cells:
        if cell.verdict is outcome:
            why = format.first_reason(cell).rstrip(".")
            by_reason.setdefault(why, []).append(claim("{cell}", cell, on=["verdict"]))
    for why, cells in by_reason.items():
        says = OPEN[outcome][len(cells) > 1]
        yield claim("{all} {says}: {why}.", all=listed(cells), says=says, why=why)


def rule(kind: Question) -> Callable[[Rule], Rule]:
    """Makes a function the rule of a kind of question."""
    return lambda function: RULES.setdefault(kind, function)


MAX_SENTENCES = 4
"""Up to so many broken cells, every cell has its own sentence; beyond, every limit has one."""


@rule("general")
def general(cells: Cells) -> list[Claim]:
    """Any spec: which cells hold, which break and by what, and what limits them."""
    held, broke = (
        [cell for cell in cells if cell.verdict is outcome]
        for outcome in (Outcome.HELD, Outcome.BROKE)
    )
    form = "{cell} (p95 {p95}, {error_rate} failed)"
    claims = of_all(
        "Every criterion is met by {all}.", [claim(form, cell, on=["verdict"]) for cell in held]
    )
    if len(broke) > MAX_SENTENCES:
        return claims + _by_limit(broke)
    form = "{cell} {verdict}: {why} ({failed})."
    claims += [claim(form, cell, why=format.first_reason(cell)) for cell in broke]
    return claims + limits(broke)


def _by_limit(broke: Cells) -> list[Claim]:
    """A sentence a limit: the cells that it broke."""
    by_limit: dict[str, list[Claim]] = {}
    for cell in broke:
        limit = str(cell.limit.resource) if cell.limit else "none"
        phrase = claim("{cell}", cell, on=["verdict", stated("", cell, f"limit {limit}")])
        by_limit.setdefault(limit, []).append(phrase)
    unnamed = {"none": "with no limit in sight", "unclear": "with a limit that is unclear"}
    claims = []
    for limit, phrases in by_limit.items():
        how = unnamed.get(limit, f"at the limit {limit}")
        claims += of_all("{count} broke {how}: {all}.", phrases, count=len(phrases), how=how)
    return claims


NO_CONNECTION = ("errors.pool_timeout", "errors.db_refused")
"""Failures for want of a connection."""


@rule("pool_validation")
def pool_validation(cells: Cells) -> list[Claim]:
    """Phase 1: do connections stay within the bound, and is it the pool that keeps them there?"""
    ran_dry = [_ran_dry(cell) for cell in cells if _without_connection(cell)]
    served = [claim("{cell}", cell, on=NO_CONNECTION) for cell in cells if _counted(cell)]
    return [
        *_within(cells),
        *_cannot_pass(cells),
        *(
            of_all("Connections ran out in {all}.", ran_dry, "; and ")
            or of_all("No upload failed for want of a connection in {all}.", served)
        ),
        *limits(cells),
        *_too_short(cells),
    ]


def _within(cells: Cells) -> list[Claim]:
    findings = [(cell, finding_on("pg_connections", cell)) for cell in cells]
    claims = []
    for outcome, form in (
        ("met", "Connections never passed {bound} in {all}."),
        ("missed", "They did pass {bound} in {all}."),
        ("undecided", "Whether they passed {bound} is undecided in {all}."),
    ):
        peaks, bound = [], ""
        for cell, finding in findings:
            if finding and finding.outcome == outcome:
                bound = f"{Criterion.parse(finding.criterion).bound:g}"
                peak = format.metric("pg_connections", finding.value)
                on = [held_against(cell, finding)]
                peaks.append(claim("{cell} (peak {peak})", cell, on, peak=peak))
        claims += of_all(form, peaks, bound=bound)
    return claims


def _cannot_pass(cells: Cells) -> list[Claim]:
    """The cells whose pools hold no more than the bound: that they met it proves nothing."""

    def could_not(cell: CellResult) -> bool:
        finding, knobs = finding_on("pg_connections", cell), knobs_of(cell)
        if finding is None or finding.outcome != "met":
            return False
        allowed = knobs.workers * pool_connections(knobs)
        return bool(allowed <= Criterion.parse(finding.criterion).bound)

    form = (
        "Pool and overflow allow no more in {all}: there the bound cannot be passed, only run dry."
    )
    on = ["knob pool_size", "knob max_overflow"]
    return of_all(form, [claim("{cell}", cell, on) for cell in cells if could_not(cell)])


def _without_connection(cell: CellResult) -> float:
    return sum(cell.metrics.get(metric, 0) for metric in NO_CONNECTION)


def _counted(cell: CellResult) -> bool:
    """Whether failures for want of a connection were counted at all."""
    return all(metric in cell.metrics for metric in NO_CONNECTION)


def _ran_dry(cell: CellResult) -> Claim:
    """How many uploads got no connection, from the pool or from Postgres."""
    causes = [
        claim(f"{{{metric}}} {metric.removeprefix(format.ERRORS)}", cell)
        for metric in NO_CONNECTION
        if cell.metrics.get(metric) or metric == NO_CONNECTION[0]
    ]
    form = "{cell}: {causes} of {attempts} uploads, peak {pg_connections} connections, {failed}"
    return claim(form, cell, causes=listed(causes))


@rule("pool_exhaustion")
def pool_exhaustion(cells: Cells) -> list[Claim]:
    """Scenario 1: the session held and released, side by side at each load."""
    held, released = (
        [_ran_dry(cell) for cell in cells if cell.knobs["db_session"] == session]
        for session in ("hold", "release")
    )
    return [
        *of_all("With the session held across the upload: {all}.", held, "; and "),
        *of_all("With the session released before it: {all}.", released, "; and "),
        *of_all("Held against released: {all}.", _what_the_fix_changes(cells)),
        *limits([cell for cell in cells if _without_connection(cell)]),
    ]


def _what_the_fix_changes(cells: Cells) -> list[Claim]:
    """A phrase for each load at which both were measured."""
    by_load: dict[str, dict[str, CellResult]] = {}
    for cell in filter(_counted, cells):
        load = cell.axes.get("load", "this load")
        by_load.setdefault(load, {})[cell.knobs["db_session"]] = cell
    phrases = []
    for load, pair in by_load.items():
        if set(pair) != {"hold", "release"}:
            continue
        before, after = (_without_connection(pair[session]) for session in ("hold", "release"))
        what = "the fix does not suffice" if after else "nothing tells them apart"
        if before and not after:
            what = "the fix holds"
        held = claim(f"{before:.0f}", pair["hold"], on=NO_CONNECTION)
        released = claim(f"{after:.0f}", pair["release"], on=NO_CONNECTION)
        form = "{what} at {load} ({held} against {released})"
        phrases.append(claim(form, what=what, load=load, held=held, released=released))
    return phrases


@rule("gcs_threshold")
def gcs_threshold(cells: Cells) -> list[Claim]:
    """Phase 2: at how many users, on the way up, a criterion is crossed first."""
    claims = [_first_crossings(cell) for cell in cells]
    claims += _order_of_p95(cells) + limits(cells)
    if any(finding_on("p95", cell) for cell in cells):
        claims.append(Claim(text="A ramp reads a threshold late; `lab threshold` measures it."))
    return claims + _too_short(cells)


def _order_of_p95(cells: Cells) -> list[Claim]:
    """Who goes first, by the users at whom p95 passes its bound."""
    pairs = []
    for cell in cells:
        crossings = _timeline(cell).crossings
        p95 = [c for c in crossings if Criterion.parse(c.criterion).name == "p95"]
        pairs += [(cell, crossing) for crossing in p95[:1]]
    pairs.sort(key=lambda pair: pair[1].since_users)
    order = [
        claim("{cell} ({users})", cell, [_where(cell, crossing)], users=crossing.since_users)
        for cell, crossing in pairs
    ]
    form = "By the users at whom p95 gives way: {all}."
    return of_all(form, order, ", then ") if len(order) > 1 else []


def _timeline(cell: CellResult) -> Timeline:
    return cell.course or Timeline()


def _where(cell: CellResult, crossing: Crossing) -> Claim:
    low, high = sorted((crossing.since_users, crossing.users))
    users = f"{low}-{high} users" if low < high else f"{low} users"
    if low == cell.load.get("stages", [{}])[0].get("users"):
        users += ", the fewest there were, so it lies there or below"
    return _crossed(cell, crossing, users, high)


def _first_crossings(cell: CellResult) -> Claim:
    if crossings := [_where(cell, crossing) for crossing in _timeline(cell).crossings]:
        return claim("{cell}: {crossings}.", cell, crossings=listed(crossings, ", then "))
    findings = [held_against(cell, f) for f in cell.findings if f.value is not None]
    if not findings:
        return claim("{cell}: nothing was measured to hold against a bound.", cell)
    form = "{cell}: no bound was crossed for certain up to {users} users ({findings})."
    return claim(form, cell, users=_max_users(cell), findings=listed(findings))


def _crossed(cell: CellResult, crossing: Crossing, users: str, figure: int) -> Claim:
    text = f"{crossing.criterion} is crossed at {users} ({crossing.t:.0f} s)"
    return stated(text, cell, f"crossing {crossing.criterion}", float(figure))


def _max_users(cell: CellResult) -> int:
    """The most users of a load in stages; 0 for another."""
    return max((int(stage["users"]) for stage in cell.load.get("stages", ())), default=0)


@rule("spike")
def spike(cells: Cells) -> list[Claim]:
    """Phase 3: what a sudden class of users meets; the cold starts where there are instances."""
    verbs = {
        Outcome.HELD: "carries the spike",
        Outcome.BROKE: "does not carry the spike",
        Outcome.UNDECIDED: "leaves open whether it carries the spike",
    }
    claims = []
    for cell in cells:
        form = "{cell} {verb}: {findings}; {failed}."
        if "cold_starts" in cell.metrics:
            form += " {cold_starts:cold start}; {succeeded} of {attempts} uploads were served."
        findings = listed([held_against(cell, finding) for finding in cell.findings])
        verb = verbs[cell.verdict]
        claims.append(claim(form, cell, on=["verdict"], verb=verb, findings=findings))
    return [*claims, *limits(cells), *_too_short(cells)]


@rule("endurance")
def endurance(cells: Cells) -> list[Claim]:
    """Phase 4: what grows for as long as users upload; no leak is a statement with its bound."""
    claims: list[Claim] = []
    for cell in cells:
        claims += _leaks(cell)
        claims.append(claim("Of the uploads of {cell}, {failed}.", cell))
    return claims + limits(cells)


def _leaks(cell: CellResult) -> list[Claim]:
    if not cell.leaks:
        needed = f"a steady window of {MIN_WINDOW_S / 60:.0f} min, and one without kills"
        return [claim(f"{{cell}} says nothing of leaks: it takes {needed}.", cell)]
    claims = []
    for outcome, form in (
        ("leak", "{cell} leaks: {slopes}."),
        ("none", "{cell} leaks none of these: {slopes}."),
        ("undecided", "{cell} leaves open: {slopes}."),
    ):
        slopes = [_slope(cell, leak) for leak in cell.leaks if leak.outcome == outcome]
        claims += [claim(form, cell, slopes=listed(slopes, "; "))] if slopes else []
    return claims


def _slope(cell: CellResult, leak: Leak) -> Claim:
    quantity = QUANTITIES[leak.metric]
    low, value, high, bound = (
        f"{number * quantity.per_second:.2f}"
        for number in (leak.low, leak.slope, leak.high, leak.bound)
    )
    text = f"{quantity.name} {value} {quantity.unit} ({low} .. {high} at 95 %, {bound} matters)"
    text += f", that is {leak.what}" if leak.what else ""
    return stated(text, cell, f"leak {leak.metric}", leak.slope)


@rule("stress")
def stress(cells: Cells) -> list[Claim]:
    """Phase 5: what fails first on the way up, what follows, and what backpressure keeps."""
    return [
        *map(_what_went_first, cells),
        *(kept for cell in cells for kept in _backpressure(cell)),
        *limits(cells),
        *_too_short(cells),
    ]


def _what_went_first(cell: CellResult) -> Claim:
    events = []
    for crossing in _timeline(cell).crossings:
        users = crossing.since_users
        events.append((crossing.t, _crossed(cell, crossing, f"{users} users", users)))
    for failure in _timeline(cell).failures:
        since = format.plural(failure.users, "user")
        text = f"{failure.cause} from {since} on ({failure.count} in all, "
        text += f"{failure.t:.0f} s)"
        phrase = stated(text, cell, f"failure {failure.cause}", float(failure.count))
        events.append((failure.t, phrase))
    phrases = [phrase for _, phrase in sorted(events, key=lambda event: event[0])]
    if not phrases:
        form = "{cell}: nothing failed up to {users} users, in {attempts} uploads."
    elif len(phrases) == 1:
        form = "{cell}: {first}, and nothing else up to {users} users."
    else:
        form = "{cell}: first {first}; then {others}."
    first, others = listed(phrases[:1]), listed(phrases[1:], ", then ")
    return claim(form, cell, users=_max_users(cell), first=first, others=others)


def _backpressure(cell: CellResult) -> list[Claim]:
    """Whether the uploads that are accepted stay within their p95 while others are refused."""
    finding = finding_on("p95", cell)
    if cell.knobs.get("max_inflight_uploads") in (None, "off") or finding is None:
        return []
    kept = {
        "met": "those that it accepted stayed within their p95",
        "missed": "those that it accepted did not stay within their p95",
        "undecided": "whether those that it accepted stayed within their p95 is undecided",
    }[finding.outcome]
    form = (
        "With at most {knob max_inflight_uploads} uploads inside a worker, {cell} refused "
        "{errors.overloaded} uploads at once, and {kept} ({finding})."
    )
    return [claim(form, cell, kept=kept, finding=held_against(cell, finding))]


REPORTED_WAIT_S = 4.5
"""The incident report's mean wait of 50 users: 30 that queue / 6.7 uploads a second."""


@rule("gcs_backlog")
def gcs_backlog(cells: Cells) -> list[Claim]:
    """Scenario 2: how long a user of a burst waits, beside the wait that the report works out."""
    form = (
        "{cell}: {succeeded} of {attempts} were served, after waiting {wait} on average and "
        "{wait_p95} at the 95th percentile, {times} times the report's {report} s; {failed}."
    )
    claims = []
    for cell in cells:
        if "wait" in cell.metrics:
            times = f"{cell.metrics['wait'] / REPORTED_WAIT_S:.1f}"
            claims.append(claim(form, cell, times=times, report=f"{REPORTED_WAIT_S}"))
        else:
            unserved = "{cell}: of {users} users nobody was served; {failed}."
            claims.append(claim(unserved, cell, users=str(cell.load.get("burst", "its"))))
    return claims + limits(cells)


@rule("cold_start")
def cold_start(cells: Cells) -> list[Claim]:
    """Scenario 3: who is served when a class comes at once to instances that are not there."""
    claims = []
    for cell in cells:
        form = (
            "{cell}: {succeeded} of {attempts} uploads were served, after {queue_wait} of waiting "
            "for an instance on average; {cold_starts:cold start}."
        )
        if cell.metrics.get("errors.no_instance"):
            form += (
                " {errors.no_instance} were refused for want of an instance, after "
                "{queue_wait_refused} on average."
            )
        claims.append(claim(form, cell))
    return claims + limits(cells)


@rule("memory")
def memory(cells: Cells) -> list[Claim]:
    """Scenario 4: which cells lost an instance for its memory, and how near the others came."""
    kills = [(cell, cell.metrics.get("oom_kills")) for cell in cells]
    form = (
        "{cell}: instances were killed {oom_kills} times for passing {knob cloudrun_memory}; "
        "{errors.instance_died} of {attempts} uploads died with them, and {cold_starts} instances "
        "were started anew."
    )
    claims = [claim(form, cell) for cell, number in kills if number]
    form = "{cell} (peak {memory_instance} of {knob cloudrun_memory})"
    spared = [claim(form, cell, on=["oom_kills"]) for cell, number in kills if number == 0]
    uncounted = [claim("{cell}", cell) for cell, number in kills if number is None]
    return [
        *claims,
        *of_all("No instance was killed in {all}.", spared),
        *of_all("Kills were not counted in {all}.", uncounted, ", "),
        *limits([cell for cell, number in kills if number]),
    ]


MIN_TIMEOUTS = 3
"""A window of so many time-outs shows how failures go on after the first."""


def _too_short(cells: Cells) -> list[Claim]:
    """What a trial is too short to show: a sentence on the first cell whose users met nginx's
    time-out and could send hardly more than once in the window."""
    for cell in cells:
        limit = nginx_limits(knobs_of(cell)).patience_s
        own = cell.knobs.get("nginx_read_timeout", PRESET) != PRESET
        knob = "nginx_read_timeout" if own else "nginx"
        start, end = window_of_spec(cell.load)
        end = start + cell.decided.window_s if cell.decided else end
        met = cell.target == "vm" and cell.metrics.get("errors.gateway_timeout")
        if met and end - start < MIN_TIMEOUTS * limit:
            form = (
                f"{{errors.gateway_timeout}} uploads of {{cell}} met nginx's time-out of {limit:g}"
                f" s ({knob} {{knob {knob}}}); in a window of {end - start:.0f} s such a user "
                f"sends {ceil((end - start) / limit)} at most: enough to show that uploads fail, "
                "too few to show how failures go on."
            )
            return [claim(form, cell)]
    return []
