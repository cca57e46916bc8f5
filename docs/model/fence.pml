/*
 * How one section of a Set is won, served and lost: PROTOCOL.md, sections 3 and 4, for spin.
 *
 * Checked in every reachable state, whatever is delayed, lost, doubled, reordered, paused, restarted:
 *
 *   SEQ_1    a number is above every number given before it
 *   SEQ_2    no number is given twice (with -DWILD_CLOCKS too, where leases mean nothing)
 *   SEQ_3    a number is given only below a max_seq that W replicas hold
 *   NRW_1    the max_seq of a replica never falls
 *   FENCE_1  a fence has seen every raise of a lower epoch that W ever acknowledge
 *   LEASE_1  at most one incarnation is able to answer
 *
 * Replicas 0..2; incarnations 0..INCS-1; attempts 0..ATTEMPTS-1, each of one incarnation to win the
 * section at one epoch. Steps are atomic: whatever is concurrent in a cluster is the order of these
 * steps. README.md argues why what a step leaves out loses no behaviour that breaks a promise, and
 * says what is not modelled at all.
 *
 * -D<planted bug> breaks a rule; -DREACH -DREACH_<what> claims that something never happens;
 * -DCALLERS_ONLY checks nothing but SEQ_1 and SEQ_2. check.py knows them all.
 */

#ifndef ATTEMPTS
#define ATTEMPTS 3 /* 2 or 3 */
#endif
#ifndef INCS
#define INCS 2 /* 2 or 3 */
#endif
#ifndef R
#define R 2
#endif
#ifndef W
#define W 2
#endif
#ifndef STEP
#define STEP 1
#endif
#ifndef RAISES
#define RAISES 1 /* of one attempt: 1 or 2 */
#endif
#ifndef RESTARTS
#define RESTARTS 1 /* of replicas, each at most once */
#endif

/* What a planted bug changes. */
#ifdef RAISE_BELOW_W
#define ACKS (W - 1)
#else
#define ACKS W
#endif
#ifdef TOO_FEW_ANSWERS
#define ANSWERS (R - 1)
#else
#define ANSWERS R
#endif
#ifdef GREATEST_GRANT
#define GRANTS 1
#else
#define GRANTS W
#endif
#ifdef BLIND_PUT
#define BLIND 1
#else
#define BLIND 0
#endif
#ifdef NO_GRACE
#define GRACE 0
#else
#define GRACE 1
#endif

#define SIZE(mask) (((mask) & 1) + (((mask) >> 1) & 1) + (((mask) >> 2) & 1))
#define MASK(is, ...) (is(0, __VA_ARGS__) | is(1, __VA_ARGS__) << 1 | is(2, __VA_ARGS__) << 2)
#if ATTEMPTS == 3
#define EACH(step, r) step(0, r); step(1, r); step(2, r)
#define ANY(is, ...) (is(0, __VA_ARGS__) || is(1, __VA_ARGS__) || is(2, __VA_ARGS__))
#define SUM(of) (of(0) + of(1) + of(2))
#else
#define EACH(step, r) step(0, r); step(1, r)
#define ANY(is, ...) (is(0, __VA_ARGS__) || is(1, __VA_ARGS__))
#define SUM(of) (of(0) + of(1))
#endif

typedef Replica {
    unsigned promised : 2;
    unsigned max_seq : 4;
    unsigned owner_epoch : 2;
    unsigned owner : 2;
    bit released;
    unsigned snapshot : 4; /* cur_seq + 1 of the owner that released; 0: none */
    bit forgot; /* it restarted; grants of before are alive, and only boot grace tells of them */
    bit grace
}

/* States of an attempt. */
#define NONE 0
#define FENCING 1
#define WAITING 2
#define RAISING 3
#define SERVING 4
#define OVER 5 /* left or given up; what it sent may still arrive */

typedef Attempt {
    unsigned state : 3;
    unsigned inc : 2;
    unsigned epoch : 2;
    /* Fencing: who answered, what the answers add up to, which of them told of a live lease. */
    unsigned answered : 3;
    unsigned found : 4;
    unsigned prev_epoch : 2;
    unsigned prev : 2;
    bit released;
    unsigned snapshot : 4;
    unsigned wait : 3;
    /* Serving. */
    unsigned cur_seq : 4;
    unsigned max_seq : 4; /* acknowledged by W */
    unsigned acks : 3; /* of the raise in flight */
    /* In the network: raises and a release, and the replicas where each can still do something. */
    unsigned raise1 : 4;
    unsigned at1 : 3;
    unsigned raise2 : 4;
    unsigned at2 : 3;
    unsigned left : 4; /* cur_seq + 1 */
    unsigned at_left : 3;
#ifdef NOT_STICKY
    unsigned deaf : 3
#endif
#ifdef STALE_SNAPSHOT
    unsigned stale : 4
#endif
}

Replica rep[3];
Attempt att[ATTEMPTS];
unsigned begun : 2; /* attempts so far */
unsigned people : 2; /* incarnations that were ever told to serve */

/*
 * Leases. The lowest promise under which a grant of replica r to incarnation i was made that is still
 * alive for its holder, two bits each. Such a grant counts for attempts at that epoch and above: for
 * lower ones it brought the notice that ended them.
 */
unsigned grants : 18;
#define PLACE(r, i) (2 * (3 * (i) + (r)))
#define GRANT(r, i) ((grants >> PLACE(r, i)) & 3)
#define COUNTS(r, a) (GRANT(r, att[a].inc) <= att[a].epoch)

/* Ghosts: nobody knows them. */
unsigned restarted : 3;
#ifdef WILD_CLOCKS
short given; /* bit for each number */
#else
unsigned last : 4; /* the greatest number given */
#endif
#ifdef REACH
unsigned been : 3; /* attempts that did what is asked for */
#endif

byte x; /* scratch, 0 between steps */
bit SEQ_1, SEQ_2, SEQ_3, NRW_1, FENCE_1, LEASE_1, REACHED;
#define CHECK(fine, promise) if :: (fine) :: else -> promise = 1; assert(!promise) fi
#ifdef CALLERS_ONLY
#define CHECK_WITHIN(fine, promise) skip
#else
#define CHECK_WITHIN CHECK /* what callers see nothing of */
#endif
#define NEVER(it) if :: (it) -> REACHED = 1; assert(!REACHED) :: else fi

#if defined(NO_NOTICE) || defined(WILD_CLOCKS)
#define ABLE(a) (att[a].state == SERVING)
#elif defined(NOT_STICKY)
#define ABLE(a) (att[a].state == SERVING && SIZE(MASK(COUNTS, a) | att[a].deaf) >= GRANTS)
#else
#define ABLE(a) (att[a].state == SERVING && SIZE(MASK(COUNTS, a)) >= GRANTS)
#endif
#ifdef WILD_CLOCKS
#define CHECK_LEASE_1 skip
#else
#define CHECK_LEASE_1 CHECK_WITHIN(SUM(ABLE) <= 1, LEASE_1)
#endif

/* A message that can do nothing any more is gone: states that differ by it are one. */
inline tidy(b) {
    if :: att[b].at1 == 0 -> att[b].raise1 = 0 :: else fi;
    if :: att[b].at2 == 0 && att[b].state == OVER -> att[b].raise2 = 0 :: else fi;
    if :: att[b].at_left == 0 -> att[b].left = 0 :: else fi
}

inline end(b) {
    att[b].state = OVER;
    att[b].answered = 0;
    att[b].found = 0;
    att[b].prev_epoch = 0;
    att[b].prev = 0;
    att[b].released = 0;
    att[b].snapshot = 0;
    att[b].wait = 0;
    att[b].cur_seq = 0;
    att[b].max_seq = 0;
    att[b].acks = 0;
    tidy(b)
}

#ifdef NOT_STICKY
#define MAY_MISS(a, r) \
    (FENCING <= att[a].state && att[a].state <= RAISING && rep[r].promised > att[a].epoch \
     && !(att[a].deaf & (1 << r)))

inline miss(a, r) { att[a].deaf = att[a].deaf | (1 << r) }
#endif

/* Replicas are alike until something happened to them: first to 0, then to 1, then to 2. */
#ifdef NO_PROMISE
#define NEXT(r) 1
#else
#define BLANK(r) (rep[r].promised == 0 && !(restarted & (1 << r)))
#define NEXT(r) ((r) == 0 || !BLANK(r) || !BLANK(((r) + 2) % 3))
#endif

/* A promise; messages of lower epochs will be refused. */
inline promise(a, r) {
#ifdef NO_PROMISE
    skip
#else
    rep[r].promised = att[a].epoch;
    EACH(refuse_below, r)
#endif
}

inline refuse_below(b, r) {
    if
    :: att[b].epoch < rep[r].promised ->
        att[b].at1 = att[b].at1 & ~(1 << r);
        att[b].at2 = att[b].at2 & ~(1 << r);
        att[b].at_left = att[b].at_left & ~(1 << r);
        tidy(b)
    :: else
    fi
}

#define TAKES(r, e) (rep[r].promised <= (e))

/*
 * The map tells an incarnation to serve at an epoch, rightly or not. An incarnation tries an epoch
 * once, one at a time, and nobody takes a served section from it by a lower one.
 */
#define TRIED(b, i, e) (att[b].state != NONE && att[b].inc == (i) && att[b].epoch == (e))
#define SERVES_ABOVE(b, i, e) (att[b].state == SERVING && att[b].inc == (i) && att[b].epoch > (e))
#define MAY_BEGIN(i, e) \
    (begun < ATTEMPTS && (i) <= people && !ANY(TRIED, i, e) && !ANY(SERVES_ABOVE, i, e))

inline begin(i, e) {
    EACH(end_of, i);
    if :: (i) == people -> people++ :: else fi;
    att[begun].state = FENCING;
    att[begun].inc = i;
    att[begun].epoch = e;
    begun++
}

inline end_of(b, i) {
    if :: att[b].state != NONE && att[b].state != OVER && att[b].inc == i -> end(b) :: else fi
}

/* A fence reaches a replica, which answers. Of answers that are lost, or come too late, see README. */
#define MAY_FENCE(a, r) \
    (att[a].state == FENCING && att[a].epoch > rep[r].promised && !(att[a].answered & (1 << r)) \
     && NEXT(r))

inline fence(a, r) {
    promise(a, r);
    att[a].answered = att[a].answered | (1 << r);
    if :: rep[r].max_seq > att[a].found -> att[a].found = rep[r].max_seq :: else fi;
    if
    :: rep[r].owner_epoch > att[a].prev_epoch ->
        att[a].prev_epoch = rep[r].owner_epoch;
        att[a].prev = rep[r].owner;
        att[a].released = rep[r].released;
        att[a].snapshot = rep[r].snapshot
    :: rep[r].owner_epoch == att[a].prev_epoch && rep[r].released ->
        att[a].released = 1;
        att[a].snapshot = rep[r].snapshot
    :: else
    fi;
#ifdef STALE_SNAPSHOT
    if :: rep[r].snapshot > 0 -> att[a].stale = rep[r].snapshot :: else fi;
#endif
    if :: !rep[r].forgot || rep[r].grace -> att[a].wait = att[a].wait | (1 << r) :: else fi;
#ifdef REACH_GRACE
    if :: rep[r].grace -> been = been | (1 << a) :: else fi;
#endif
    if :: SIZE(att[a].answered) == ANSWERS -> decide(a) :: else fi
}

/* Attempt b serves, at a lower epoch, from a window that this fence has not seen. */
#define UNSEEN(b, a) \
    (att[b].state == SERVING && att[b].epoch < att[a].epoch && att[b].max_seq > att[a].found)

inline decide(a) {
    if
    :: att[a].released || att[a].prev_epoch == 0 || att[a].prev == att[a].inc -> att[a].wait = 0
    :: else
    fi;
#if defined(NO_WAIT) || defined(WILD_CLOCKS)
    att[a].wait = 0;
#endif
    if :: !att[a].released -> att[a].snapshot = 0 :: else fi;
#ifdef STALE_SNAPSHOT
    att[a].snapshot = att[a].stale;
    att[a].stale = 0;
#endif
    if :: att[a].wait == 0 -> att[a].prev = 0 :: else fi;
    att[a].state = WAITING;
    att[a].answered = 0;
    att[a].prev_epoch = 0;
    att[a].released = 0;
    CHECK_WITHIN(!ANY(UNSEEN, a), FENCE_1)
}

/*
 * What the fence told of is dead at last: of the previous owner's grants at these replicas, only those
 * made after the promise count, and they brought the notice of it. The first raise goes out.
 */
#define MAY_RAISE(a) (att[a].state == WAITING)

inline first_raise(a, from) {
    x = from;
    waited(a, 0); waited(a, 1); waited(a, 2);
#ifdef REACH_GRACE
    if :: att[a].wait == 0 -> been = been & ~(1 << a) :: else fi;
#endif
#ifdef REACH_WAITED
    if :: att[a].wait != 0 -> been = been | (1 << a) :: else fi;
#endif
#ifdef REACH_SNAPSHOT
    if :: att[a].snapshot == x + 1 && x < att[a].found -> been = been | (1 << a) :: else fi;
#endif
    att[a].wait = 0;
    att[a].prev = 0;
    att[a].snapshot = 0;
    att[a].raise1 = (x + STEP > att[a].found -> x + STEP : att[a].found);
    att[a].at1 = MASK(TAKES, att[a].epoch);
    att[a].cur_seq = x;
    att[a].state = RAISING;
#ifdef BASE_TOO_LOW
    att[a].cur_seq = (x > STEP -> x - STEP : 0);
#endif
#ifdef UNDURABLE_START
    att[a].state = SERVING;
    att[a].max_seq = att[a].raise1;
    CHECK_LEASE_1;
#endif
    x = 0
}

inline waited(a, r) {
    if
    :: (att[a].wait & (1 << r)) && GRANT(r, att[a].prev) < att[a].epoch ->
        grants = grants & ~(3 << PLACE(r, att[a].prev)) | (att[a].epoch << PLACE(r, att[a].prev))
    :: else
    fi
}

/* Another raise, in the background, once the first one is acknowledged. */
#define MAY_RAISE_AGAIN(a) (RAISES == 2 && att[a].state == SERVING && att[a].raise2 == 0)

inline raise_again(a) {
    att[a].raise2 = att[a].max_seq + STEP;
    att[a].at2 = MASK(TAKES, att[a].epoch)
}

/* A raise reaches a replica. `awaited`: it is the one that its owner waits for. */
inline raised(a, r, value, awaited) {
    if
    :: rep[r].promised > att[a].epoch
#ifndef SHARED_EPOCH
    :: rep[r].owner_epoch == att[a].epoch && rep[r].owner != att[a].inc
#endif
    :: else ->
        if :: rep[r].promised < att[a].epoch -> promise(a, r) :: else fi;
        if
        :: rep[r].owner_epoch < att[a].epoch ->
            rep[r].owner_epoch = att[a].epoch;
            rep[r].owner = att[a].inc;
#ifndef KEPT_RELEASE
            rep[r].released = 0;
            rep[r].snapshot = 0
#endif
        :: else
        fi;
        x = (BLIND || value > rep[r].max_seq -> value : rep[r].max_seq);
        CHECK_WITHIN(x >= rep[r].max_seq, NRW_1);
        rep[r].max_seq = x;
        x = 0;
        if
        :: awaited ->
            att[a].acks = att[a].acks | (1 << r);
            if :: SIZE(att[a].acks) >= ACKS -> acknowledged(a, value) :: else fi
        :: else
        fi
    fi
}

/* Attempt b has won a fence at a higher epoch, and has not seen this value. */
#define OVERTAKEN(b, e, value) \
    (WAITING <= att[b].state && att[b].state <= SERVING && att[b].epoch > (e) \
     && att[b].found < (value))
#define PROMISED_ABOVE(r, e) (rep[r].promised > (e))

inline acknowledged(a, value) {
    att[a].acks = 0;
    att[a].max_seq = value;
    att[a].state = SERVING;
    CHECK_WITHIN(!ANY(OVERTAKEN, att[a].epoch, value), FENCE_1);
#ifdef REACH_ACK_AFTER_PROMISES
    NEVER(SIZE(MASK(PROMISED_ABOVE, att[a].epoch)) >= R);
#endif
    CHECK_LEASE_1
}

#define ARRIVES1(a, r) ((att[a].at1 & (1 << r)) && NEXT(r))
#define ARRIVES2(a, r) ((att[a].at2 & (1 << r)) && NEXT(r))

/* A second copy would find everything done: only a blind put is sent again. */
inline raised1(a, r) {
    att[a].at1 = (BLIND -> att[a].at1 : att[a].at1 & ~(1 << r));
    raised(a, r, att[a].raise1, att[a].state == RAISING);
    tidy(a)
}

inline raised2(a, r) {
    att[a].at1 = (BLIND -> att[a].at1 : att[a].at1 & ~(1 << r));
    att[a].at2 = att[a].at2 & ~(1 << r);
    raised(a, r, att[a].raise2, att[a].state == SERVING && att[a].max_seq < att[a].raise2);
    tidy(a)
}

/* A number is given. */
#define MAY_GIVE(a) (ABLE(a) && att[a].cur_seq < att[a].max_seq)
#define HOLDS(r, number) (rep[r].max_seq >= (number))

inline give(a) {
    att[a].cur_seq++;
#ifdef WILD_CLOCKS
    CHECK(!(given & (1 << att[a].cur_seq)), SEQ_2);
    given = given | (1 << att[a].cur_seq);
#else
    CHECK(att[a].cur_seq != last, SEQ_2);
    CHECK(att[a].cur_seq > last, SEQ_1);
    last = att[a].cur_seq;
#endif
    CHECK_WITHIN(SIZE(MASK(HOLDS, att[a].cur_seq)) >= W, SEQ_3);
#ifdef REACH_TAKEOVER
    been = been | (1 << a);
    NEVER((been & 3) == 3 && att[0].inc != att[1].inc);
#endif
#ifdef REACH_ABA
    been = been | (1 << a);
    NEVER(been == 7 && att[0].inc == att[2].inc && att[1].inc != att[0].inc);
#endif
#ifdef REACH_SECOND_RAISE
    NEVER(att[a].cur_seq == att[a].raise2);
#endif
#if defined(REACH_WAITED) || defined(REACH_SNAPSHOT) || defined(REACH_GRACE)
    NEVER(been & (1 << a));
#endif
#ifdef REACH_DEPOSED
    NEVER(SIZE(MASK(PROMISED_ABOVE, att[a].epoch)) >= R);
#endif
}

/* A planned move: stop, and then tell. A raise that W have not acknowledged is waited for. */
#define MAY_LEAVE(a) \
    (att[a].state == SERVING && att[a].max_seq >= att[a].raise2 && att[a].left == 0)

inline leave(a) {
    att[a].left = att[a].cur_seq + 1;
    att[a].at_left = MASK(TAKES, att[a].epoch);
#ifndef RELEASE_EARLY
    end(a)
#endif
}

#define MAY_RELEASE(a, r) \
    ((att[a].at_left & (1 << r)) && rep[r].promised <= att[a].epoch && !rep[r].released \
     && rep[r].owner_epoch == att[a].epoch && rep[r].owner == att[a].inc)

inline release(a, r) {
    rep[r].released = 1;
    rep[r].snapshot = att[a].left;
    att[a].at_left = att[a].at_left & ~(1 << r);
    tidy(a)
}

/* A replica restarts, and its boot grace ends when no grant of before is alive. */
#define MAY_RESTART(r) (SIZE(restarted) < RESTARTS && !(restarted & (1 << r)) && NEXT(r))

inline restart(r) {
    restarted = restarted | (1 << r);
    rep[r].forgot = 1;
    rep[r].grace = GRACE
}

inline end_grace(r) {
    rep[r].grace = 0;
    rep[r].forgot = 0
}

/* Everything that can happen. A process has no state of its own: it only gives steps their place. */
#define A (_pid / 3)
#define AT (_pid % 3)
active [ATTEMPTS * 3] proctype Arriving() /* of an attempt's messages at a replica */
{
end_idle:
    do
    :: d_step { MAY_FENCE(A, AT) -> fence(A, AT) }
    :: d_step { ARRIVES1(A, AT) -> raised1(A, AT) }
#if RAISES == 2
    :: d_step { ARRIVES2(A, AT) -> raised2(A, AT) }
#endif
    :: d_step { MAY_RELEASE(A, AT) -> release(A, AT) }
#ifdef NOT_STICKY /* a notice comes while nothing is served yet: forgotten, but its grant counts */
    :: d_step { MAY_MISS(A, AT) -> miss(A, AT) }
#endif
#ifdef LOST_ANSWERS /* a fence that nobody hears the answer of */
    :: d_step { att[A].epoch > rep[AT].promised && NEXT(AT) -> promise(A, AT) }
#endif
    od
}
#undef A
#undef AT

#define A (_pid - 3 * ATTEMPTS)
active [ATTEMPTS] proctype Owning()
{
end_idle:
    do
    :: d_step { MAY_RAISE(A) -> first_raise(A, att[A].found) }
    :: d_step { MAY_RAISE(A) && att[A].snapshot > 0 -> first_raise(A, att[A].snapshot - 1) }
#if RAISES == 2
    :: d_step { MAY_RAISE_AGAIN(A) -> raise_again(A) }
#endif
    :: d_step { MAY_GIVE(A) -> give(A) }
    :: d_step { MAY_LEAVE(A) -> leave(A) }
#ifdef GIVING_UP
    :: d_step { FENCING <= att[A].state && att[A].state <= SERVING -> end(A) }
#endif
    od
}
#undef A

#ifdef EARLY_DEATHS /* a grant runs out, and only one that brings a notice can be had */
#define DIE(r, i) :: d_step { GRANT(r, i) < rep[r].promised -> die(r, i) }

inline die(r, i) { grants = grants & ~(3 << PLACE(r, i)) | (rep[r].promised << PLACE(r, i)) }
#endif

active proctype Happening()
{
end_idle:
    do
    :: d_step { MAY_BEGIN(0, 1) -> begin(0, 1) }
    :: d_step { MAY_BEGIN(0, 2) -> begin(0, 2) }
    :: d_step { MAY_BEGIN(1, 1) -> begin(1, 1) }
    :: d_step { MAY_BEGIN(1, 2) -> begin(1, 2) }
#if ATTEMPTS == 3
    :: d_step { MAY_BEGIN(0, 3) -> begin(0, 3) }
    :: d_step { MAY_BEGIN(1, 3) -> begin(1, 3) }
#if INCS == 3
    :: d_step { MAY_BEGIN(2, 1) -> begin(2, 1) }
    :: d_step { MAY_BEGIN(2, 2) -> begin(2, 2) }
    :: d_step { MAY_BEGIN(2, 3) -> begin(2, 3) }
#endif
#endif
#if RESTARTS > 0
    :: d_step { MAY_RESTART(0) -> restart(0) }
    :: d_step { MAY_RESTART(1) -> restart(1) }
    :: d_step { MAY_RESTART(2) -> restart(2) }
    :: d_step { rep[0].grace -> end_grace(0) }
    :: d_step { rep[1].grace -> end_grace(1) }
    :: d_step { rep[2].grace -> end_grace(2) }
#endif
#ifdef EARLY_DEATHS
    DIE(0, 0) DIE(1, 0) DIE(2, 0) DIE(0, 1) DIE(1, 1) DIE(2, 1)
#endif
    od
}
