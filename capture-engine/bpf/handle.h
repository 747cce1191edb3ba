/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What a packet does, whichever program it was seen by. */
#ifndef PILOTFISH_HANDLE_H
#define PILOTFISH_HANDLE_H

#include "emit.h"
#include "flow.h"
#include "lines.h"
#include "lock.h"
#include "refused.h"

#define PF_CLOSE_LOST 0x10000

/* UDP has no handshake: the sender of the first packet asks, unless its port says that it answers. */
static __always_inline __u32 pf_udp_role(struct pf_packet *p, int dir)
{
	__u16 from = dir == PF_EGRESS ? p->key.local_port : p->key.remote_port;
	__u16 to = dir == PF_EGRESS ? p->key.remote_port : p->key.local_port;
	int asks = !(from < 1024 && to >= 1024);

	return asks == (dir == PF_EGRESS) ? PF_FLOW_LOCAL_CLIENT : PF_FLOW_LOCAL_SERVER;
}

/* Whether the first packet that is seen of a connection may be this one: a SYN, or payload of one that is older. */
static __always_inline int pf_may_begin(struct pf_packet *p)
{
	if (p->tcp_flags & PF_TCP_SYN)
		return !(p->tcp_flags & PF_TCP_ENDS);
	return p->payload && (p->tcp_flags & (PF_TCP_RST | PF_TCP_ACK)) == PF_TCP_ACK;
}

static __always_inline void pf_count_opening(struct pf_control *control, __u32 slot, __s32 change)
{
	__sync_fetch_and_add(&control->opening[pf_place(slot)], change);
	__sync_fetch_and_add(&control->opening_all, change);
}

/* Whether a SYN gets no flow: a flood or a scan of one namespace must not take the room of the others. */
static __always_inline int pf_opening_full(struct pf_control *control, __u32 slot)
{
	__s32 share = control->opening_share, mine = *(volatile __s32 *)&control->opening[pf_place(slot)];

	if (*(volatile __s32 *)&control->opening_all >= (__s32)control->opening_room)
		share = control->opening_share >> 4;
	return mine >= share;
}

/* Whether user space wants no message of this slot. */
static __always_inline int pf_is_quiet(struct pf_control *control, __u32 slot)
{
	struct pf_key key;

	if (!control->quiet)
		return 0;
	__builtin_memset(&key, 0, sizeof(key));
	key.slot = slot;
	return bpf_map_lookup_elem(&pilotfish_override, &key) != 0;
}

/* Whether all is to be copied of a connection that begins, because of its server. */
static __always_inline int pf_is_eager(struct pf_control *control, struct pf_packet *p, int dir)
{
	int local_client = (dir == PF_EGRESS) == !(p->tcp_flags & PF_TCP_ACK);
	struct pf_key key;

	if (!control->servers || p->key.proto != IPPROTO_TCP || !(p->tcp_flags & PF_TCP_SYN))
		return 0;
	key = p->key;
	key.slot = 0;
	if (local_client) {
		__builtin_memset(key.local_ip, 0, sizeof(key.local_ip));
		key.local_port = 0;
	} else {
		__builtin_memset(key.remote_ip, 0, sizeof(key.remote_ip));
		key.remote_port = 0;
	}
	return bpf_map_lookup_elem(&pilotfish_override, &key) != 0;
}

/* A flow for the packet's key; 0 when it gets none, which is counted. */
static __always_inline struct pf_flow *pf_new_flow(struct __sk_buff *skb, struct pf_cpu *cpu, int dir, struct pf_control *control)
{
	struct pf_flow *flow, *fresh = &cpu->fresh;
	struct pf_packet *p = &cpu->packet;
	struct pf_ports *ports;
	__u32 zero = 0;
	__u8 marks;

	if (p->key.proto == IPPROTO_TCP && !pf_may_begin(p)) {
		cpu->stats.count[PF_STAT_STRAY]++;
		if (p->tcp_flags & PF_TCP_ENDS && control->answers[0] + control->answers[1])
			pf_answer_over(cpu, dir);
		return 0;
	}
	if (p->tcp_flags & PF_TCP_SYN && pf_opening_full(control, p->key.slot)) {
		if (!(p->tcp_flags & PF_TCP_ACK))
			cpu->stats.count[PF_STAT_OPENING_FULL]++;
		return 0;
	}
	if (pf_share_full(control, p->key.slot)) {
		cpu->stats.count[PF_STAT_FLOWS_SHARE]++;
		if (p->payload)
			pf_refused(skb, cpu, control, dir);
		return 0;
	}
	ports = bpf_map_lookup_elem(&pilotfish_ports, &zero);
	if (!ports)
		return 0;
	__builtin_memset(fresh, 0, sizeof(*fresh));
	fresh->flow_id = cpu->before.now;
	fresh->head_bytes = control->head_bytes;
	if (p->key.proto == IPPROTO_UDP)
		fresh->flags = pf_udp_role(p, dir);
	else if (!(p->tcp_flags & PF_TCP_SYN))
		fresh->flags = PF_FLOW_MIDWAY;
	marks = ports->marks[p->key.local_port] | ports->marks[p->key.remote_port];
	if ((marks & (PF_PORT_EXCLUDED | PF_PORT_INCLUDED)) != PF_PORT_INCLUDED || pf_is_quiet(control, p->key.slot))
		fresh->flags |= PF_FLOW_NOT_COPIED;
	else if (pf_is_eager(control, p, dir))
		fresh->flags |= PF_FLOW_EAGER;
	if (!(p->tcp_flags & PF_TCP_SYN) && pf_told(skb, cpu, control, dir)) {
		cpu->stats.count[PF_STAT_STRAY]++;
		return 0;
	}
	/* Another CPU may have been faster: then its flow is ours too. */
	if (!bpf_map_update_elem(&pilotfish_flows, &p->key, fresh, BPF_NOEXIST)) {
		pf_count_flow(control, p->key.slot);
		if (p->tcp_flags & PF_TCP_SYN)
			pf_count_opening(control, p->key.slot, 1);
	}
	flow = bpf_map_lookup_elem(&pilotfish_flows, &p->key);
	if (!flow) {
		cpu->stats.count[PF_STAT_FLOWS_FULL]++;
		if (p->payload)
			pf_refused(skb, cpu, control, dir);
	}
	return flow;
}

/* Whether a message begins behind an answer that was told without a flow: what the other side says that is new, or
 * another answer. */
static __always_inline int pf_is_untold(struct __sk_buff *skb, struct pf_flow *flow, struct pf_packet *p, int dir)
{
	__u32 number;
	__u8 head[12];

	if (pf_is_older(flow, dir, p->seq + p->payload))
		return 0;
	return dir != flow->turn_dir || (p->held >= sizeof(head) && pf_ahead(p->seq, flow->isn[dir]) > 0 &&
					 !bpf_skb_load_bytes(skb, p->payload_at, head, sizeof(head)) &&
					 pf_is_answer(head, p, dir, &number));
}

/* Looks without the lock at what the packet is likely to do, because the answer needs helpers. A
 * wrong guess (the other direction's packet on another CPU came in between) costs one message its
 * override or its tail. */
static __always_inline void pf_look_ahead(struct __sk_buff *skb, struct pf_flow *flow, struct pf_cpu *cpu, int dir,
					  struct pf_control *control)
{
	struct pf_packet *p = &cpu->packet;
	int tcp = p->key.proto == IPPROTO_TCP;
	int starts = !flow->turn || flow->turn_dir != dir;
	__u64 bytes = starts ? 0 : flow->message.bytes;
	int late = tcp && !starts && !(flow->flags & PF_FLOW_WALKED) && bytes < PF_EVERYTHING_MOST &&
		   bytes / PF_LATE_LOOKS != (bytes + p->payload) / PF_LATE_LOOKS;
	struct pf_override *override;

	if (flow->flags & (PF_FLOW_NOT_COPIED | PF_FLOW_TOLD | PF_FLOW_KEPT)) {
		if (flow->flags & PF_FLOW_KEPT) {
			/* Of the connection that came after it. */
			if (!(flow->flags & PF_FLOW_NOT_COPIED))
				pf_refused(skb, cpu, control, dir);
			p->payload = p->held = 0;
			return;
		}
		p->untold = flow->flags & PF_FLOW_TOLD && pf_is_untold(skb, flow, p, dir);
		if (!p->untold || flow->flags & PF_FLOW_NOT_COPIED)
			return;
	}
	if ((!tcp || starts) && pf_is_quiet(control, p->key.slot)) {
		/* Atomic, since others change flags under the lock; where theirs goes over it, the next message asks again. */
		__sync_fetch_and_or(&flow->flags, PF_FLOW_NOT_COPIED);
		return;
	}
	if (control->overrides && (!tcp || starts || late)) {
		override = bpf_map_lookup_elem(&pilotfish_override, &p->key);
		/* Amid a message, only to be followed from here on. */
		if (override && override->flow_id == flow->flow_id && (!late || pf_walks(override->frames))) {
			cpu->before.override = override->budget;
			cpu->before.overridden = 1;
			cpu->before.frames = override->frames;
		}
	}
	if (flow->flags & (PF_FLOW_EAGER | PF_FLOW_WALKED) || pf_walks(cpu->before.frames))
		cpu->before.crowded = pf_is_crowded(control);
	if (tcp && p->held == p->payload && bytes + p->payload > flow->head_bytes && flow->head_bytes &&
	    !bpf_skb_load_bytes(skb, p->payload_at + p->payload - 8, &cpu->before.tail, 8))
		cpu->before.tail_read = 1;
}

/* The ring had no room: the flow remembers. If another connection has its place by now, nothing else tells of its
 * end. */
static __always_inline void pf_take_back(struct pf_flow *flow, struct pf_cpu *cpu, struct pf_control *control, int lost)
{
	int locked = pf_lock(flow, cpu), gone = 0;

	if (flow->flow_id == cpu->after.flow_id) {
		flow->lost_events += lost & ~PF_CLOSE_LOST;
		if (lost & PF_CLOSE_LOST)
			flow->flags &= ~PF_FLOW_CLOSE_REPORTED;
	} else {
		gone = lost & PF_CLOSE_LOST;
	}
	if (locked)
		pf_unlock(flow);
	if (gone)
		pf_put_aside(cpu, control);
}

/* A function of its own, so that it is verified once. The number of records that found no room;
 * PF_CLOSE_LOST is added when one of them was the flow's end. */
__noinline int pf_emit(struct __sk_buff *skb, struct pf_cpu *cpu, struct pf_control *control)
{
	int lost = 0;

	if (!cpu || !control)
		return 0;
	if (cpu->after.tail)
		lost = pf_emit_tail(cpu, control);
	if (cpu->after.ranges)
		lost += pf_emit_ranges(skb, cpu, control);
	else if (cpu->after.copy)
		lost += pf_emit_segment(skb, cpu, control);
	if (cpu->after.closed && pf_emit_closed(cpu, control))
		lost |= PF_CLOSE_LOST;
	return lost;
}

/* Counts what could not be parsed; true when all went well. */
static __always_inline int pf_parsed(int result, struct pf_cpu *cpu)
{
	__u64 stat = (__u32)result;

	if (result == PF_PARSED)
		return 1;
	/* In one register, or the verifier loses what the comparison told it. */
	asm volatile("" : "+r"(stat));
	if (stat < PF_STAT_MAX)
		cpu->stats.count[stat]++;
	return 0;
}

/* What follows when cpu->packet is filled, but for the slot. */
static __always_inline void pf_handle(struct __sk_buff *skb, __u32 slot, __u32 dir, struct pf_cpu *cpu)
{
	struct pf_packet *p = &cpu->packet;
	struct pf_control *control;
	struct pf_walk *walk = 0;
	struct pf_flow *flow;
	int lost, locked, opening = 0;
	__u32 zero = 0;

	p->key.slot = slot;
	flow = bpf_map_lookup_elem(&pilotfish_flows, &p->key);
	if (flow && pf_ack(flow, dir, cpu))
		return;
	control = bpf_map_lookup_elem(&pilotfish_control, &zero);
	if (!control)
		return;
	__builtin_memset(&cpu->before, 0, sizeof(cpu->before));
	__builtin_memset(&cpu->after, 0, __builtin_offsetof(struct pf_after, prev));
	cpu->before.now = bpf_ktime_get_ns();
	if (!flow)
		flow = pf_new_flow(skb, cpu, dir, control);
	if (!flow)
		return;
	if (p->payload)
		pf_look_ahead(skb, flow, cpu, dir, control);
	if ((flow->flags & (PF_FLOW_WALKED | PF_FLOW_LINES_ANY) || cpu->before.frames) && p->key.proto == IPPROTO_TCP) {
		if (!pf_walks(cpu->before.frames) && !(flow->flags & PF_FLOW_WALKED)) {
			pf_lines(skb, flow, cpu, dir);
		} else {
			walk = bpf_map_lookup_elem(&pilotfish_walks, &p->key);
			if (walk && walk->flow_id == flow->flow_id)
				pf_walk(skb, flow, walk, cpu, dir);
			else
				cpu->before.frames = 0;
		}
	}

	locked = pf_lock(flow, cpu);
	if (p->key.proto == IPPROTO_TCP) {
		opening = -pf_half_open(flow);
		pf_tcp(flow, dir, cpu, control, walk);
		opening += pf_half_open(flow);
	} else {
		pf_udp(flow, dir, cpu, control);
	}
	cpu->after.dir = dir;
	cpu->after.flow_id = flow->flow_id;
	cpu->after.flow_flags = flow->flags;
	if (locked)
		pf_unlock(flow);

	if (opening)
		pf_count_opening(control, slot, opening);
	if (cpu->after.copy || cpu->after.ranges || cpu->after.tail || cpu->after.closed) {
		lost = pf_emit(skb, cpu, control);
		if (lost)
			pf_take_back(flow, cpu, control, lost);
	}
}

#endif
