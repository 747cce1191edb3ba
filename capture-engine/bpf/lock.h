/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A flow's lock: one word, which says what CPU has it. bpf_spin_lock costs 52 ns a packet, because
 * it calls two helpers and turns interrupts off; this costs two atomic instructions, 3 ns when
 * nobody else wants it. At interfaces our programs run with bottom halves off and never within each
 * other. A packet that one of the node's own sockets sends may be interrupted on its CPU by one
 * that comes in: that one does not wait for what it interrupted. */
#ifndef PILOTFISH_LOCK_H
#define PILOTFISH_LOCK_H

#include "maps.h"

/* A holder keeps the lock for 0.1 us, or for as long as an interrupt or its hypervisor keeps it
 * from going on. Some 100 us are spent here at most. */
#define PF_LOCK_TRIES 32768

struct pf_locking {
	struct pf_flow *flow;
	__u32 me;
};

static long pf_lock_try(__u32 index, void *context)
{
	struct pf_locking *locking = context;
	struct pf_flow *flow = locking->flow;

	/* The last turn does nothing, so that a whole loop means that the lock was not taken. */
	if (index == PF_LOCK_TRIES - 1)
		return 0;
	/* A look first: a failed exchange takes the cache line from who holds the lock. */
	return !*(volatile __u32 *)&flow->lock && !__sync_val_compare_and_swap(&flow->lock, 0, locking->me);
}

/* False when the lock was not to be had: then the packet is handled without, which may cost the
 * flow a count or a message. */
static __always_inline int pf_lock(struct pf_flow *flow, struct pf_cpu *cpu)
{
	struct pf_locking locking = { flow, bpf_get_smp_processor_id() + 1 };
	__u32 holder = __sync_val_compare_and_swap(&flow->lock, 0, locking.me);

	if (!holder)
		return 1;
	if (holder != locking.me && bpf_loop(PF_LOCK_TRIES, pf_lock_try, &locking, 0) < PF_LOCK_TRIES)
		return 1;
	cpu->stats.count[PF_STAT_UNLOCKED]++;
	return 0;
}

static __always_inline void pf_unlock(struct pf_flow *flow)
{
	/* An exchange and not a store: it orders what was written under the lock before it, on every architecture. */
	__sync_lock_test_and_set(&flow->lock, 0);
}

#endif
