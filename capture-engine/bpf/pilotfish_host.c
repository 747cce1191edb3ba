/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Packets that sockets of the node's own namespace send and receive, seen at the cgroups of their
 * processes. Reached by a tail call from `pilotfish_stub`. Loads from Linux 6.1 on. */
#include "handle.h"
#include "host.h"

#define PF_PASS 1

/* Attached by the stubs for both directions; the kernel holds only programs with other verdicts to
 * the direction that they were made for. */
SEC("cgroup_skb/ingress")
int pilotfish_host(struct __sk_buff *skb)
{
	__u32 slot = skb->cb[0], dir = skb->cb[1] & 1; /* from the stub; the kernel puts back what was there before */
	struct pf_cpu *cpu;
	__u32 area;

	cpu = pf_enter(&area);
	if (!cpu)
		return PF_PASS;
	cpu->stats.count[PF_STAT_PACKETS]++;
	if (pf_parsed(pf_parse_host(skb, dir, &cpu->packet), cpu)) {
		if (dir == PF_EGRESS)
			pf_take_socket(skb, &cpu->packet);
		if (pf_wanted(&cpu->packet))
			pf_handle(skb, slot, dir, cpu);
	}
	pf_leave(area);
	return PF_PASS;
}
