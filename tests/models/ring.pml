/* The protocol of a command ring (csrc/ring.c, csrc/ring_wait.c) for one owner and one client that may be killed at any
 * step. Every statement is one step of one process; all others may come between any two.
 *
 * Checked for every interleaving:
 *   no half-written record is consumed, and records come in order       assertions in take_command and take_completion
 *   each command is acknowledged once, in order                         assertion in take_completion
 *   no wake-up is lost: when nothing moves any more, the client is
 *   dead or has all its acknowledgements, and what a dead client
 *   published is applied                                                assertions in Monitor
 *
 * -DBUG=1..7 plants one mistake each, and each must be found: see the lines with BUG. A processor's store that becomes
 * visible late (what the fences forbid) is modelled as the load that follows it being done first.
 *
 *   spin -a [-DBUG=n] ring.pml && cc -O2 -DSAFETY -o pan pan.c && ./pan */

#ifndef BUG
#define BUG 0
#endif

#define COMMANDS 4 /* sent by the client */
#define ROOM 2     /* records that each queue holds */

/* Each record is two words, so that it can be half written; both hold its number. */
byte command_head_word[ROOM], command_body[ROOM];
byte completion_head_word[ROOM], completion_body[ROOM];

byte command_tail, command_head, completion_tail, completion_head;
bool waiting;  /* the client says that it waits */
bool asleep;   /* the system has put it to sleep */
bool sleeping; /* the owner says that it sleeps */
bool bell;     /* the eventfd */
bool dead;     /* the client is killed */

byte sent, acknowledged, taken;

inline call_owner() {
    if
    :: sleeping -> bell = true
    :: else
    fi
}

inline publish_command() {
#if BUG == 1
    /* no fence: the flag is read before the tail can be seen */
    was_sleeping = sleeping;
    command_tail = sent;
    if
    :: was_sleeping -> bell = true
    :: else
    fi
#else
    command_tail = sent;
    call_owner()
#endif
}

inline send_command() {
#if BUG == 2
    /* published before it is written */
    sent++;
    publish_command();
    command_head_word[(sent - 1) % ROOM] = sent;
    command_body[(sent - 1) % ROOM] = sent
#else
    command_head_word[sent % ROOM] = sent + 1;
    command_body[sent % ROOM] = sent + 1;
    sent++;
    publish_command()
#endif
}

inline take_completion() {
    assert(completion_head_word[acknowledged % ROOM] == acknowledged + 1);
    assert(completion_body[acknowledged % ROOM] == acknowledged + 1);
    acknowledged++;
    completion_head = acknowledged;
#if BUG != 3
    /* the owner may have stopped for want of room for completions */
    call_owner()
#endif
}

/* Waits until the completion tail is not `seen`, or a wake-up comes: the futex compares and sleeps in one step. */
inline await_owner() {
#if BUG == 4
    /* looks before it says that it waits, and sleeps without looking again */
    if
    :: completion_tail == seen ->
        waiting = true;
        asleep = true
    :: else
    fi;
#else
    waiting = true;
    if
    :: completion_tail == seen ->
        atomic {
            if
            :: completion_tail == seen -> asleep = true
            :: else
            fi
        }
    :: else
    fi;
#endif
    !asleep;
    waiting = false
}

proctype Client() {
    byte room_head, seen;
    bool was_sleeping;
    {
        do
        :: acknowledged == COMMANDS -> break
        :: else ->
            room_head = command_head;
            seen = completion_tail;
            if
            :: sent < COMMANDS && sent - room_head < ROOM -> send_command()
            :: seen != acknowledged -> take_completion()
            :: !(sent < COMMANDS && sent - room_head < ROOM) && seen == acknowledged -> await_owner()
            fi
        od
    } unless { dead }
}

inline wake_client() {
    if
    :: waiting ->
#if BUG == 7
        /* Found by this model when the protocol was made: the flag is cleared for a tail that the client has seen already,
         * and then the client sleeps without it. */
        waiting = false;
#endif
        asleep = false
    :: else
    fi
}

/* Any number of completions may be shown at once. The room of their commands is given back first. */
inline publish_completions() {
    command_head = taken;
#if BUG == 5
    /* no fence: the flag is read before the tail can be seen */
    was_waiting = waiting;
    completion_tail = taken;
    if
    :: was_waiting -> asleep = false
    :: else
    fi
#else
    completion_tail = taken;
    wake_client()
#endif
}

inline take_command() {
    assert(command_head_word[taken % ROOM] == taken + 1);
    assert(command_body[taken % ROOM] == taken + 1);
    completion_head_word[taken % ROOM] = taken + 1;
    completion_body[taken % ROOM] = taken + 1;
    taken++
}

proctype Owner() {
    byte tail, room_head;
    bool was_waiting, nothing;
    do
    :: tail = command_tail;
        room_head = completion_head;
        if
        :: tail != taken && taken - room_head < ROOM ->
            take_command();
            if
            :: publish_completions()
            :: skip /* later, with the next ones */
            fi
        :: else ->
            if
            :: completion_tail != taken -> publish_completions()
            :: else
            fi;
#if BUG == 6
            /* looks before it says that it sleeps */
            tail = command_tail;
            room_head = completion_head;
            nothing = !(tail != taken && taken - room_head < ROOM);
            sleeping = true;
#else
            sleeping = true;
            tail = command_tail;
            room_head = completion_head;
            nothing = !(tail != taken && taken - room_head < ROOM);
#endif
            if
            :: nothing ->
end_waits:
                bell
            :: else
            fi;
            sleeping = false;
            bell = false
        fi
    od
}

/* Kills the client at some step, or never. The owner hears of it (the socket of the client closes) and looks once more:
 * a client that dies between its tail and its bell rings no more. */
proctype Killer() {
    if
    :: dead = true; bell = true
    :: skip
    fi
}

/* Runs when no other process can: whoever then waits, waits for ever. */
proctype Monitor() {
    timeout;
    assert(dead || (acknowledged == COMMANDS && taken == COMMANDS));
    assert(!dead || taken == command_tail || taken - completion_head == ROOM)
}

init {
    atomic {
        run Client();
        run Owner();
        run Killer();
        run Monitor()
    }
}
