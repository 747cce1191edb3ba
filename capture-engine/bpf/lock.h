/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A flow's lock: one word. bpf_spin_lock costs 52 ns a packet, because it calls two helpers and turns interrupts off; this costs two atomic
 * instructions, 3 ns when nobody else wants it. Our programs run with bottom halves off and never within each other, so who holds the
 * lock is on another CPU. */
#ifndef PILOTFISH_LOCK_H
#define PILOTFISH_LOCK_H

#include "maps.h"

/* A holder keeps the lock for 0.1 us, or for as long as an interrupt or its hypervisor keeps it from going on. Some 100 us are spent here at most. */
#define PF_LOCK_TRIES 32768

static long pf_lock_try(__u32 index, void *context)
{
	struct pf_flow *flow = *(struct pf_flow **)context;

	/* The last turn does nothing, so that a whole loop means that the lock was not taken. */
	if (index == PF_LOCK_TRIES - 1)
		return 0;
	/* A look first: a failed exchange takes the cache line from who holds the lock. */
	return !*(volatile __u32 *)&flow->lock && !__sync_val_compare_and_swap(&flow->lock, 0, 1);
}

/* False when the lock was not to be had: then the packet is handled without, which may cost the flow a count or a message. */
static __always_inline int pf_lock(struct pf_flow *flow, struct pf_cpu *cpu)
{
	struct pf_flow *context = flow;

	if (!__sync_val_compare_and_swap(&flow->lock, 0, 1))
		return 1;
	if (bpf_loop(PF_LOCK_TRIES, pf_lock_try, &context, 0) < PF_LOCK_TRIES)
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
