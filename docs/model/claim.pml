/*
 * A model of how two workers keep one entry of one target equal to the directory: the
 * claim protocol of pkg/links, pkg/worker and usersync. README.md maps every step to the
 * Go function that does it. `make model` searches all states and shows that each of five
 * deliberate mistakes is found:
 *
 *   -DNO_SECOND_LOOK          a take-over schedules no second look
 *   -DNO_DEADLINE             a request is sent although the time of the claim is over
 *   -DWALL_CLOCK_TAKEOVER     a foreign claim is taken over by comparing wall clocks
 *   -DCOMMIT_WITHOUT_COMPARE  the result is written without compare-and-set
 *   -DACK_BEFORE_COMMIT       the message is acknowledged before the result is stored
 *
 * Two more were found by this model in the code, and are kept:
 *
 *   -DCREDIT_OF_ANY_SEQUENCE  what the guard let pass for one sequence passes for a later one
 *   -DOLD_DELIVERY            a delivery that is older than the link is worked on as it came
 *
 * Variants of the target: -DDUPLICATES accepts a second account of the same name.
 * What may go wrong in one run is bounded by CRASHES, LOST, REDELIVERIES and RENEWALS.
 */

#ifndef CRASHES
#define CRASHES 1      /* a worker process dies; it starts again under another name */
#endif
#ifndef LOST
#define LOST 1         /* answers that do not arrive, of the target or of NATS */
#endif
#ifndef REDELIVERIES
#define REDELIVERIES 1 /* messages that come again while their worker is alive */
#endif
#ifndef RENEWALS
#define RENEWALS 1     /* commits that keep the claim */
#endif

#define WORKERS 2
#define SLOTS   4 /* requests in the network: one of each worker, and those of the dead */
#define RESOURCES 4
#define NOBODY  0 /* the owner of a claim whose worker gave it up without an answer */

/* Values of an account: that of the state before, of sequence 1, of sequence 2; disabled. */
#define NONE     0
#define BEFORE   1
#define FIRST    2
#define SECOND   3
#define DISABLED 4

/* Messages. */
#define ABSENT   0
#define READY    1
#define INFLIGHT 2
#define CHANGE   0
#define REQUEST  1

/* The second look. */
#define TO_COME  1
#define DUE      2

/* Requests to the target, and answers. */
#define POST     1
#define PATCH    2
#define OK       1
#define CONFLICT 2


byte newest = 1;        /* the newest sequence of the entry in the stream */
byte desired[3];        /* by sequence; DISABLED stands for an entry that is gone */
byte message[2] = ABSENT;
bool schedule = false;  /* the schedule of the request for the second look */

typedef Link {
	byte sequence;      /* that was applied */
	byte resource;      /* NONE: no resource */
	byte value;         /* what the target holds, as far as is known */
	bool claim;
	byte owner;
	byte look;          /* the second look: none, to come, due */
	byte credit;        /* the sequence for which the guard let a removal pass */
}
Link stored;            /* in the bucket */
bool owned[RESOURCES];  /* the ownership keys of this entry */

byte target[RESOURCES]; /* resources by id, from 1 */
byte resources = 0;

typedef Slot { bool used; byte kind; byte resource; byte value; byte waits; bool old }
Slot net[SLOTS];

byte crashes = CRASHES, lost = LOST, redeliveries = REDELIVERIES, renewals = RENEWALS;
bool begun = false;
byte names = WORKERS;   /* names of processes that were given out */

/* What a worker knows. */
typedef Worker {
	byte name;
	byte kind;          /* of the delivery */
	bool gone;          /* a newer message has taken its place: nothing that is said of it counts */
	byte sequence;      /* that is worked on */
	Link link;          /* as read, and changed since */
	bool stale;         /* another write has changed the revision of the link since */
	bool busy;          /* there is a delivery */
	bool repair, second, claimed, corrected;
	byte answer, made;  /* of the target, and the resource that it made */
	bool over;          /* the deadline of the claim has passed */
	bool seen;          /* a foreign claim was seen at the present revision of the link */
	bool lease;         /* and one lease has passed since */
}
Worker w[WORKERS];

bool passed[3];         /* ghost: the guard let a removal of this sequence pass */
bool waiting[3];        /* ghost: the guard holds a removal of this sequence */
bool blocked = false;   /* ghost: two accounts bear the entry's name, which is for an operator */

#define me w[id]

/* A write of the link: it has another revision for everybody else. */
inline written() {
	w[1 - id].stale = w[1 - id].busy;
	w[0].seen = false; w[0].lease = false; w[1].seen = false; w[1].lease = false
}

/* The compare-and-set of the bucket: it expects the revision of the link that was read. */
inline store(done) {
	if
	:: !me.stale -> written(); done = true
	:: else -> done = false
	fi
}

/* The ownership key of a resource. In no state does the entry own two. */
inline own(which) {
	owned[which] = true;
	assert(owned[1] + owned[2] + owned[3] <= 1)
}

inline copyLink(to, from) {
	to.sequence = from.sequence; to.resource = from.resource; to.value = from.value;
	to.claim = from.claim; to.owner = from.owner; to.look = from.look; to.credit = from.credit
}

inline clear(i) {
	net[i].used = false; net[i].kind = 0; net[i].resource = 0; net[i].value = 0; net[i].waits = 0; net[i].old = false
}

/* The newer message of a subject is delivered at once, also when the older is in flight. */
inline publish(which) {
	message[which] = READY;
	w[0].gone = w[0].gone || w[0].busy && w[0].kind == which;
	w[1].gone = w[1].gone || w[1].busy && w[1].kind == which
}

/* The message comes back, unless a newer one has taken its place or it was acknowledged. */
inline back() {
	if
	:: message[me.kind] == INFLIGHT && !me.gone -> message[me.kind] = READY
	:: else
	fi
}

inline acknowledge() {
	if
	:: !me.gone -> message[me.kind] = ABSENT
	:: else
	fi
}

/* What a worker knows is of no use any more, but for its delivery. */
inline finished() {
	me.sequence = 0; me.repair = false; me.second = false; me.claimed = false; me.corrected = false;
	me.answer = 0; me.made = 0; me.over = false; me.stale = false;
	me.link.sequence = 0; me.link.resource = 0; me.link.value = 0; me.link.claim = false; me.link.owner = 0; me.link.look = 0;
	me.link.credit = 0; found = 0; match = 0; ok = false
}

inline forget() {
	finished(); me.kind = 0; me.gone = false; me.busy = false
}

/* The accounts that bear the entry's externalId and name: how many, and the last one. */
inline search() {
	found = 0; match = 0; i = 1;
	do
	:: i < RESOURCES && target[i] != NONE -> found++; match = i; i++
	:: i < RESOURCES && target[i] == NONE -> i++
	:: i == RESOURCES -> i = 0; break
	od
}

inline free() {
	i = 0;
	do
	:: net[i].used -> i++
	:: else -> break
	od;
	assert(i < SLOTS)
}

/* What is in the network now will have gone from it when the second look is made. */
#define age(i) net[i].old = net[i].used

/* The process dies: what it sent stays in the network, what it holds comes again. */
#define CRASH crashes > 0 -> crashes--; goto dead

proctype Run(byte id) {
	byte i = 0, found = 0, match = 0;
	bool ok = false;

	me.name = id + 1;

end_idle:
	/* Consume: a message is handed to one of the workers. */
	atomic {
		if /* the workers are alike: the first one begins */
		:: (id == 0 || begun) && message[CHANGE] == READY -> begun = true; message[CHANGE] = INFLIGHT; me.kind = CHANGE; me.sequence = newest
		:: begun && message[REQUEST] == READY -> message[REQUEST] = INFLIGHT; me.kind = REQUEST; me.sequence = newest
		fi;
		me.busy = true
	}

load:
	/* Handle, load: read the link; skip what is applied; leave alone what another writes. */
	atomic {
		if
		:: CRASH
		:: true
		fi;
		copyLink(me.link, stored); me.stale = false;
#ifndef OLD_DELIVERY
		if
		:: me.link.sequence > me.sequence -> me.sequence = newest
		:: else
		fi;
#endif
		me.second = (me.link.look == DUE);
		me.repair = me.repair || me.second;
		if
		:: me.link.sequence >= me.sequence && !me.link.claim && me.kind == CHANGE && !me.repair -> finished(); goto ack
		:: else
		fi;
		/* links.Busy */
		if
		:: me.link.claim && me.link.owner != NOBODY && me.link.owner != me.name ->
#ifdef WALL_CLOCK_TAKEOVER
			if
			:: skip         /* the wall clock of this machine says that the claim is old */
			:: goto busy
			fi
#else
			if
			:: me.seen && me.lease -> me.seen = false; me.lease = false
			:: else -> me.seen = true; goto busy
			fi
#endif
		:: else -> me.seen = false; me.lease = false
		fi;
#ifndef NO_SECOND_LOOK
		/* expectLateWrite: the schedule is durable before the link says so. */
		if
		:: me.link.claim && me.link.owner != me.name ->
			schedule = true; me.link.look = TO_COME; me.second = false;
			age(0); age(1); age(2); age(3)
		:: else
		fi
#endif
	}

	/* Converge: after an abandoned write the target is read first (reexamine). */
	atomic {
		if
		:: CRASH
		:: !(me.repair || me.link.claim) -> goto decide
		:: (me.repair || me.link.claim) && me.link.resource != NONE -> /* recheck */
			me.corrected = (me.link.value != target[me.link.resource]);
			me.link.value = target[me.link.resource];
			goto decide
		:: (me.repair || me.link.claim) && me.link.resource == NONE -> search()
		fi;
		if
		:: found == 0 -> goto decide
		:: found == 1 -> me.link.resource = match; me.link.value = target[match]; found = 0; match = 0 /* reclaim */
		:: found > 1 && desired[me.sequence] == DISABLED -> found = 0; match = 0; goto decide
		:: found > 1 && desired[me.sequence] != DISABLED -> found = 0; match = 0; goto block
		fi
	}
	/* Job.Link: ownership and claim in one write. */
	atomic {
		if
		:: CRASH
		:: true
		fi;
		me.link.claim = true; me.link.owner = me.name;
		store(ok);
		if
		:: ok -> ok = false; copyLink(stored, me.link); own(me.link.resource); me.claimed = true; me.repair = true; me.corrected = false; me.over = false
		:: else -> goto again
		fi
	}

decide:
	/* plan.Decide and the guard. */
	atomic {
		if
		:: CRASH
		:: true
		fi;
		if
		:: desired[me.sequence] == me.link.value || desired[me.sequence] == DISABLED && me.link.resource == NONE ->
			goto done /* plan.DoNothing */
		:: else
		fi;
		if
		:: desired[me.sequence] == DISABLED ->
			/* Job.permit */
			if
#ifdef CREDIT_OF_ANY_SEQUENCE
			:: me.link.credit != 0
#else
			:: me.link.credit == me.sequence
#endif
			:: me.link.credit != me.sequence -> passed[me.sequence] = true; me.link.credit = me.sequence
			:: me.link.credit != me.sequence -> waiting[me.sequence] = true; goto hold
			fi
		:: else
		fi;
		/* Job.Claim */
		if
		:: lost > 0 -> lost--; goto comes                       /* not stored, no answer */
		:: lost > 0 ->                                          /* stored, no answer */
			lost--; me.link.claim = true; me.link.owner = me.name;
			store(ok);
			if
			:: ok -> ok = false; copyLink(stored, me.link); goto comes
			:: else -> goto comes
			fi
		:: true
		fi;
		me.link.claim = true; me.link.owner = me.name;
		store(ok);
		if
		:: ok -> ok = false; copyLink(stored, me.link); me.claimed = true; me.repair = true; me.corrected = false; me.over = false
		:: else -> goto again
		fi
	}

send:
	atomic {
		if
		:: CRASH
		:: renewals > 0 ->                                      /* Job.Progress */
			renewals--; store(ok);
			if
			:: ok -> ok = false; me.over = false; copyLink(stored, me.link)
			:: else -> goto again
			fi;
			goto send
#ifndef NO_DEADLINE
		:: me.over -> goto ambiguous                            /* Job.Target: errLeaseOver */
		:: !me.over && lost > 0 -> lost--; goto ambiguous       /* nobody has taken over yet */
		:: !me.over
#else
		:: true
#endif
		fi;
		/* The properties of every request. */
		assert(!me.over);
		assert(me.claimed);
		assert(desired[me.sequence] != DISABLED || passed[me.sequence]);
		free();
		net[i].used = true; net[i].waits = id + 1; net[i].value = desired[me.sequence]; net[i].resource = me.link.resource; net[i].old = false;
		if
		:: me.link.resource == NONE -> net[i].kind = POST
		:: else -> net[i].kind = PATCH
		fi;
		i = 0; me.answer = 0; me.made = 0
	}

	/* The answer, or none. */
	atomic {
		if
		:: CRASH
		:: lost > 0 -> lost--; goto giveup                      /* whether or not it has arrived */
		:: me.answer == OK && me.link.resource == NONE -> me.link.resource = me.made; me.made = 0; me.answer = 0; me.link.value = desired[me.sequence]
		:: me.answer == OK && me.link.resource != NONE -> me.answer = 0; me.link.value = desired[me.sequence]
		:: me.answer == CONFLICT ->
			me.answer = 0;
			search();
			if
			:: found == 1 -> me.link.resource = match; me.link.value = target[match]; found = 0; match = 0
			:: else -> goto block
			fi;
			goto adopt
		fi;
#ifdef ACK_BEFORE_COMMIT
		acknowledge()
#endif
	}
	goto done

adopt:
	/* usersync.adopt: the resource is made ours before anything is sent to it. */
	atomic {
		if
		:: CRASH
		:: true
		fi;
		store(ok);
		if
		:: ok -> ok = false; copyLink(stored, me.link); own(me.link.resource); me.over = false; goto decide
		:: else -> goto again
		fi
	}

done:
	/* Job.Done, CommitCreated */
	atomic {
		if
		:: CRASH
		:: true
		fi;
		if
		:: !me.claimed && !me.corrected && !me.second && !me.link.claim && me.link.sequence == me.sequence && me.link.credit == 0 -> finished(); goto ack
		:: else
		fi;
		me.link.claim = false; me.link.owner = NOBODY; me.link.credit = 0; me.link.sequence = me.sequence;
		if
		:: me.second -> me.link.look = 0
		:: else
		fi;
#ifdef COMMIT_WITHOUT_COMPARE
		written(); ok = true;
#else
		store(ok);
#endif
		if
		:: ok ->
			ok = false;
			assert(me.link.sequence >= stored.sequence);
			copyLink(stored, me.link);
			if
			:: me.link.resource != NONE -> own(me.link.resource)
			:: else
			fi;
			if
			:: lost > 0 -> lost--; goto comes                    /* stored, no answer: it comes again */
			:: finished()
			fi
		:: else -> goto again
		fi
	}

ack:
	atomic {
		if
		:: CRASH
		:: true
		fi;
		acknowledge(); forget()
	}
	goto end_idle;

again:
	/* Handle, step 4: another worker was faster. The newest state is read, and the target
	 * is read first where something may have been sent. */
	atomic {
		me.repair = me.repair || me.claimed; me.claimed = false; me.corrected = false; me.over = false;
		me.sequence = newest; found = 0; match = 0; me.answer = 0; me.made = 0
	}
	goto load;

giveup:
	/* The sender is gone; its request is not. */
	atomic {
		i = 0;
		do
		:: i < SLOTS && net[i].used && net[i].waits == id + 1 -> net[i].waits = 0; i++
		:: i < SLOTS && !(net[i].used && net[i].waits == id + 1) -> i++
		:: i == SLOTS -> i = 0; break
		od;
		me.answer = 0
	}

ambiguous:
	/* conclude, record: the claim stays without an owner. */
	atomic {
		if
		:: CRASH
		:: true
		fi;
		if
		:: !me.stale -> written(); stored.owner = NOBODY
		:: else
		fi
	}

comes:
busy:
	atomic { back(); forget() }
	goto end_idle;

hold:
	/* conclude: held for an operator, the claim is given up as nothing was sent. */
	atomic {
		if
		:: !me.stale && me.claimed -> written(); stored.claim = false; stored.owner = NOBODY
		:: else
		fi
	}
	goto ack;

block:
	/* Two accounts bear the name: nothing is sent, an operator decides. */
	atomic { blocked = true }
	goto ack;

dead:
	atomic {
		i = 0;
		do
		:: i < SLOTS && net[i].used && net[i].waits == id + 1 -> net[i].waits = 0; i++
		:: i < SLOTS && !(net[i].used && net[i].waits == id + 1) -> i++
		:: i == SLOTS -> i = 0; break
		od;
		back(); forget();
		me.seen = false; me.lease = false;
		names++; me.name = names /* what it claimed is a foreign claim to its successor */
	}
	goto end_idle
}

inline twin() {
	taken = false; i = 1;
	do
	:: i < RESOURCES -> taken = taken || target[i] != NONE; i++
	:: else -> i = 0; break
	od
}

#define COMES_DUE(look) look = (look == TO_COME -> DUE : look)

/* The network, the target, the directory and time. */
proctype World() {
	byte i = 0, s = 0;
	bool taken = false;
end_world:
	do
	:: atomic { newest == 1 -> newest = 2; publish(CHANGE) } /* the older message is gone with its delivery */
	:: atomic { redeliveries > 0 && message[CHANGE] == INFLIGHT -> redeliveries--; message[CHANGE] = READY }
	:: atomic { redeliveries > 0 && message[REQUEST] == INFLIGHT -> redeliveries--; message[REQUEST] = READY }

	/* A request arrives, sooner or later; one whose sender is gone may get lost. */
	:: atomic {
		net[0].used || net[1].used || net[2].used || net[3].used;
		if
		:: net[0].used -> s = 0
		:: net[1].used -> s = 1
		:: net[2].used -> s = 2
		:: net[3].used -> s = 3
		fi;
		if
		:: net[s].waits == 0 -> skip /* lost */
		:: true ->
			if
			:: net[s].kind == POST ->
				twin();
#ifdef DUPLICATES
				taken = false;
#endif
				if
				:: taken && net[s].waits > 0 -> w[net[s].waits - 1].answer = CONFLICT
				:: taken && net[s].waits == 0
				:: !taken ->
					resources++; assert(resources < RESOURCES); target[resources] = net[s].value;
					if
					:: net[s].waits > 0 -> w[net[s].waits - 1].answer = OK; w[net[s].waits - 1].made = resources
					:: else
					fi
				fi
			:: net[s].kind == PATCH ->
				target[net[s].resource] = net[s].value;
				if
				:: net[s].waits > 0 -> w[net[s].waits - 1].answer = OK
				:: else
				fi
			fi
		fi;
		clear(s); s = 0; taken = false
	}

	/* Time. A lease is longer than a deadline, and begins later: who has seen a claim for a
	 * lease knows that its deadline is over. */
	:: atomic { w[0].seen && !w[0].lease ->
		w[0].lease = true;
		if
		:: w[1].claimed && !w[1].stale -> w[1].over = true
		:: else
		fi }
	:: atomic { w[1].seen && !w[1].lease ->
		w[1].lease = true;
		if
		:: w[0].claimed && !w[0].stale -> w[0].over = true
		:: else
		fi }

	/* The second look is due when nothing that was in the network at the take-over is
	 * there any longer. */
	:: atomic { schedule && !net[0].old && !net[1].old && !net[2].old && !net[3].old ->
		schedule = false; publish(REQUEST);
		COMES_DUE(stored.look); COMES_DUE(w[0].link.look); COMES_DUE(w[1].link.look) }
	od
}

/* After quiescence, when nothing is left that could happen. */
proctype Check() {
	timeout;
	assert(newest == 2 && message[CHANGE] == ABSENT && message[REQUEST] == ABSENT);
	assert(!stored.claim || blocked || waiting[2]);
	assert(stored.look == 0 || blocked || waiting[2]);
	if
	:: blocked || waiting[2]
	:: else ->
		assert(stored.sequence == 2);
		if
		:: stored.resource != NONE -> assert(target[stored.resource] == desired[2])
		:: else -> assert(desired[2] == DISABLED && target[1] == NONE)
		fi
	fi
}

init {
	atomic {
		if
		:: desired[1] = DISABLED; desired[2] = DISABLED; /* removed for one reason, then for another */
			resources = 1; target[1] = BEFORE; owned[1] = true; stored.resource = 1; stored.value = BEFORE
		:: desired[1] = FIRST; desired[2] = SECOND      /* created, then changed */
		:: desired[1] = FIRST; desired[2] = DISABLED    /* created, then gone */
		:: desired[1] = DISABLED; desired[2] = SECOND;  /* gone, then there again */
			resources = 1; target[1] = BEFORE; owned[1] = true; stored.resource = 1; stored.value = BEFORE
		fi;
		message[CHANGE] = READY;
		run Run(0); run Run(1); run World(); run Check()
	}
}
