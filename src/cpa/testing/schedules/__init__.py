"""The core alone, simulated on the level of its events: one seed is one job, from its submission to its last end.

No loop, no store, no network: a schedule is a sequence of events that agents, verifiers, people, clocks and a
process that dies could cause, as the seed draws them, and `core.machine` decides about each. Some thousand of them
take a second. What only the shell can do wrong (leases, slots, commits, messages) is seen in
`cpa.testing.simulation`.

    schedule     what a seed is: a plan, the faults that exist, how often they strike
    world        those who answer, err, repeat, come late and lie
    strays       what comes out of turn
    watch        the job, and all that must hold after every event
    knowledge    what the events say of an effect: written from the promises, not from the code
    conduct      how a job is led from step to step: what events may do to its rows, and to what is open
    seen         what really happened, so that a green run cannot be an empty one
    tier         many schedules; a failed one made small, down to its events
"""
