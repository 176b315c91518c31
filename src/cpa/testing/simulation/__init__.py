"""The whole scheduler, simulated: one seed is one run, and equal runs take the same course.

The engine, the orchestrator with its registry, leases, breakers and retry budget, the directory, the messages on
the scheduler's side, and the conversations, the runtime and the fence on the agent's side are the real ones; so is
SQLite, where that is asked for. Simulated are time, the network, what is durable, processes that die, people, and
the effects that agents have.

    scenario                     what goes wrong, drawn from the seed
    oracles, effects, claims, restraint, circuits, blame, ending
                                 what must hold
    journal, scheduler           what is durable, and the process that is not
    network, agents, hands       the other side
    lies, proposals              what it says instead of what is true, or of doing what it was asked for
    people, troubles             those who ask and answer; what goes wrong by itself
    world                        all of it, once
    tier                         many runs; a failed one made small

The core has a simulation of its own (`cpa.testing.schedules`), at the level of events: it is hundreds of times
faster and sees one job only.
"""
