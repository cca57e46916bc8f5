/*
 * The arithmetic of leases that fence.pml relies on: whoever waits for the lease that a fence answer told
 * of, or for boot grace, waits until every grant of before is over for its holder.  LEASE_1, for spin.
 *
 * Three hosts, each with a clock of its own. In a tick of real time a clock goes on by any number of units
 * within max_drift of TICK; messages take any time; the holder may renew, the replica may restart, at any
 * moment before the fence. What comes after the fence brings the holder its notice (fence.pml), so it is
 * left out here. Formulas as in allocsvr/lease.py and storesvr/leases.py.
 */

#define TICK 5
#define DRIFT 1 /* of TICK: max_drift is 20 % */
#define TTL 20
#define MORE(t) (2 * DRIFT * (t) / TICK + 1) /* 2 * max_drift, rounded up */

#ifdef NO_MARGIN
#define COUNTED TTL
#else
#define COUNTED (TTL - MORE(TTL))
#endif
#ifdef NO_WAIT_MARGIN
#define WAITED(t) (t)
#else
#define WAITED(t) ((t) > 0 -> (t) + MORE(t) : 0)
#endif
#ifdef NO_GRACE
#define GRACE 0
#else
#ifdef SHORT_GRACE
#define GRACE (TTL / 2)
#else
#define GRACE TTL
#endif
#endif

/* Holder: units of its clock. */
bit asked, granted;
byte since;     /* the request was sent */
byte held;      /* until its lease ends */
/* Replica. */
byte lease, grace;
bit fenced;
byte told;      /* time left, in the answer to the fence */
/* Waiter. */
bit waiting;
byte wait;

bit LEASE_1, REACHED;

inline by(counter, units) { counter = (counter > units -> counter - units : 0) }

inline check() {
    if :: waiting && wait == 0 && held > 0 -> LEASE_1 = 1; assert(!LEASE_1) :: else fi;
#ifdef REACH_RENEWED
    if :: held > 0 && waiting && lease > 0 -> REACHED = 1; assert(!REACHED) :: else fi;
#endif
#ifdef REACH_WAITED
    if :: waiting && wait == 0 && told > 0 -> REACHED = 1; assert(!REACHED) :: else fi;
#endif
    skip
}

/* Real time goes on by a tick, the clocks by so many units. */
#define PASSES(h, s, w) \
    :: d_step { \
        if :: asked -> since = (since + h > TTL -> TTL : since + h) :: else fi; \
        by(held, h); by(lease, s); by(grace, s); by(wait, w); \
        check() \
    }
#define SLOW (TICK - DRIFT)
#define FAST (TICK + DRIFT)
#define PASSES_FOR_W(h, s) PASSES(h, s, SLOW) PASSES(h, s, TICK) PASSES(h, s, FAST)
#define PASSES_FOR_S(h) PASSES_FOR_W(h, SLOW) PASSES_FOR_W(h, TICK) PASSES_FOR_W(h, FAST)

init {
end_idle:
    do
    PASSES_FOR_S(SLOW) PASSES_FOR_S(TICK) PASSES_FOR_S(FAST)
    :: d_step { !asked && !fenced -> asked = 1; since = 0 }
    :: d_step { asked && !granted && !fenced -> granted = 1; lease = TTL }
    :: d_step { granted -> /* the answer arrives */
#ifdef FROM_ANSWER
        since = 0;
#endif
        if :: COUNTED > since + held -> held = COUNTED - since :: else fi;
        asked = 0; granted = 0; since = 0;
        check()
    }
    :: d_step { asked -> asked = 0; granted = 0; since = 0 } /* or is lost */
    :: d_step { !fenced -> lease = 0; grace = GRACE } /* restart */
    :: d_step { !fenced -> fenced = 1; told = (lease > grace -> lease : grace) }
    :: d_step { fenced && !waiting -> waiting = 1; wait = WAITED(told); check() }
    od
}
