/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Packets at the interfaces of a pod's namespace, both directions. Reached by a tail call from
 * `pilotfish_stub`. Loads from Linux 6.1 on. One program and not one for each direction: the
 * verifier's work is most of what an agent's start costs. */
#include "handle.h"

#define PF_NEXT -1 /* TC_ACT_UNSPEC and TCX_NEXT: the packet goes on as if we were not here */

SEC("classifier")
int pilotfish_netns(struct __sk_buff *skb)
{
	__u32 key = 0, slot = skb->cb[0], dir = skb->cb[1] & 1; /* from the stub */
	struct pf_cpu *cpu;
	__u64 *seen;

	skb->cb[0] = 0;
	skb->cb[1] = 0;
	cpu = bpf_map_lookup_elem(&pilotfish_stats, &key);
	if (!cpu)
		return PF_NEXT;
	cpu->stats.count[PF_STAT_PACKETS]++;
	key = slot & (PF_PLACES - 1);
	seen = bpf_map_lookup_elem(&pilotfish_seen, &key);
	if (seen)
		++*seen;
	if (pf_parsed(pf_parse(skb, dir, &cpu->packet), cpu))
		pf_handle(skb, slot, dir, cpu);
	return PF_NEXT;
}
