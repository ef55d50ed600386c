/* How the pages of an owner are read while it changes them (csrc/reader.c, csrc/core_commit.c, csrc/sharing.c): one
 * owner that may be killed at any step, one client that reads. Every statement is one step of one process; the other
 * may come between any two.
 *
 * A page of two bytes lies in one of two slots. A commit writes one byte, or both, or moves the page to the other slot;
 * the slot it left is then used by somebody else, which is seen as LOST bytes.
 *
 * Checked for every interleaving:
 *   what a read gives is the page as it was after the last frame before the tail that it noted
 *   a slot that a read still copies from is not given away
 *   no read waits for the owner, or begins again: there is no loop in Reader that could
 *
 * -DBUG=1..8 plants one mistake each, and each must be found: see the lines with BUG. A processor's store that becomes
 * visible late (what the fences forbid) is modelled as the load that follows it being done first.
 *
 *   spin -a [-DBUG=n] pages.pml && cc -O2 -DSAFETY -o pan pan.c && ./pan */

#ifndef BUG
#define BUG 0
#endif

#define COMMITS 3
#define READS 2
#define LOST 200
#define NOBODY 255

/* Slots: bytes 0 and 1 of slot s are slot[2 * s] and slot[2 * s + 1]. */
byte slot[4];
byte handle;     /* the slot of the page, in its header */
bool used[2];    /* the slot belongs to the page, or to a reader that may look at it still */
byte left = 255; /* the slot that the page left, until it is given away */
byte left_at;    /* by this commit */

/* The log: frame n says which bytes it sets (1: the first, 2: the second, 3: both, 0: none) and to what. */
byte frame_bytes[COMMITS + 1], frame_value[COMMITS + 1];
byte tail, applied;
byte reading = NOBODY; /* the client's word */
bool dead;

/* What the page is after each frame; nobody in the program knows this. */
byte first_after[COMMITS + 1], second_after[COMMITS + 1];

inline store_frame() {
    frame_bytes[n] = what;
    frame_value[n] = value
}

inline publish() {
    atomic {
        first_after[n] = (what & 1 -> value : first_after[n - 1]);
        second_after[n] = (what & 2 -> value : second_after[n - 1]);
        tail = n
    }
}

inline apply() {
    if
    :: what & 1 -> slot[2 * handle] = value
    :: else
    fi;
    if
    :: what & 2 -> slot[2 * handle + 1] = value
    :: else
    fi
}

/* The page goes to the other slot. What the reader finds there is there before the handle tells of it. */
inline move() {
    slot[2 * (1 - handle)] = slot[2 * handle];
    slot[2 * (1 - handle) + 1] = slot[2 * handle + 1];
    used[1 - handle] = true;
    left = handle;
    left_at = n;
    handle = 1 - handle
}

/* Gives away the slot that the page left, when no read is under way that began before. */
inline give_away() {
    if
    :: left != 255 ->
#if BUG == 6
        /* without looking at the words of clients */
        said = NOBODY;
#else
        said = reading;
#endif
        if
        :: said == NOBODY || said >= left_at ->
            used[left] = false;
            slot[2 * left] = LOST;
            slot[2 * left + 1] = LOST;
            left = 255
        :: else
        fi
    :: else
    fi
}

proctype Owner() {
    byte n, what, value, said;
    {
        n = 1;
        do
        :: n > COMMITS -> break
        :: else ->
            value = n;
            if
            :: what = 1
            :: what = 2
            :: what = 3
            :: !used[1 - handle] -> what = 0
            fi;
#if BUG == 1
            /* the pages change before the frame is published */
            store_frame();
            apply();
            publish();
#elif BUG == 8
            /* the tail moves before the frame is there */
            publish();
            store_frame();
            apply();
#else
            store_frame();
            publish();
#if BUG == 7
            /* said to be in the pages before it is */
            applied = n;
#endif
            apply();
#endif
            if
            :: what == 0 -> move()
            :: else
            fi;
            applied = n;
            give_away();
            n++
        od
    } unless { dead }
}

inline copy() {
    h = handle;
    first = slot[2 * h];
    second = slot[2 * h + 1]
}

inline begin_reading() {
    a = applied;
#if BUG == 5
    /* no fence: the header is looked at before the word can be seen */
    h = handle;
    reading = a;
    first = slot[2 * h];
    second = slot[2 * h + 1]
#else
    reading = a;
    copy()
#endif
}

proctype Reader() {
    byte a, t, h, first, second, f, i;
    do
    :: i == READS -> break
    :: else ->
#if BUG == 3
        /* the tail is noted before the copy */
        t = tail;
        begin_reading();
#elif BUG == 4
        /* what is being read is said only after the copy */
        a = applied;
        copy();
        reading = a;
        t = tail;
#else
        begin_reading();
        t = tail;
#endif
        f = a + 1;
        do
        :: f > t -> break
        :: else ->
#if BUG != 2
            /* redo: values are absolute, so it does not matter what of this frame was copied already */
            if
            :: frame_bytes[f] & 1 -> first = frame_value[f]
            :: else
            fi;
            if
            :: frame_bytes[f] & 2 -> second = frame_value[f]
            :: else
            fi;
#endif
            f++
        od;
        assert(first == first_after[t] && second == second_after[t]);
        reading = NOBODY;
        i++
    od
}

proctype Killer() {
    if
    :: dead = true
    :: skip
    fi
}

init {
    atomic {
        used[0] = true;
        run Owner();
        run Reader();
        run Killer()
    }
}
