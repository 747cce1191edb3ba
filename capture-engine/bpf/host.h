/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What is different for packets of the node's own sockets. */
#ifndef PILOTFISH_HOST_H
#define PILOTFISH_HOST_H

#include "maps.h"
#include "packet.h"

/* A packet that leaves is seen in the context of whoever sends it, with bottom halves on: a packet
 * that comes in may interrupt that on the same CPU, and on kernels with preemption so may another
 * sender. So each takes a work area of its own; 0 when there is none, which is counted. */
static __always_inline struct pf_cpu *pf_enter(__u32 *area)
{
	struct pf_cpu *first;
	__u32 zero = 0;

	first = bpf_map_lookup_elem(&pilotfish_stats, &zero);
	if (!first)
		return 0;
#pragma unroll
	for (__u32 i = 1; i <= PF_HOST_AREAS; i++) {
		__u32 bit = 1 << i;

		if (!(__sync_fetch_and_or(&first->areas, bit) & bit)) {
			*area = i;
			return bpf_map_lookup_elem(&pilotfish_stats, area);
		}
	}
	__sync_fetch_and_add(&first->stats.count[PF_STAT_NESTED], 1);
	return 0;
}

static __always_inline void pf_leave(__u32 area)
{
	struct pf_cpu *first;
	__u32 zero = 0;

	first = bpf_map_lookup_elem(&pilotfish_stats, &zero);
	if (first)
		__sync_fetch_and_and(&first->areas, ~(1u << (area & 31)));
}

/* A packet that leaves is seen behind the node's own address translation, and one that comes in
 * before it reaches the socket: behind it, too. The socket knows the one pair of addresses that
 * both directions have in common. What it does not know (an unconnected UDP socket: the remote end)
 * stays as the packet has it. */
static __always_inline void pf_take_socket(struct __sk_buff *skb, struct pf_packet *p)
{
	struct bpf_sock *sk = skb->sk;
	__u32 *local = (__u32 *)p->key.local_ip, *remote = (__u32 *)p->key.remote_ip;
	__u32 remote_port, local_port;

	if (!sk)
		return;
	local_port = sk->src_port;
	remote_port = bpf_ntohs(sk->dst_port);
	if (!remote_port)
		remote_port = p->key.remote_port;
	else if (skb->protocol == bpf_htons(ETH_P_IP))
		remote[3] = sk->dst_ip4;
	else {
		remote[0] = sk->dst_ip6[0];
		remote[1] = sk->dst_ip6[1];
		remote[2] = sk->dst_ip6[2];
		remote[3] = sk->dst_ip6[3];
	}
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		__u32 address = sk->src_ip4;

		if (address)
			local[3] = address;
	} else {
		__u32 a = sk->src_ip6[0], b = sk->src_ip6[1], c = sk->src_ip6[2], d = sk->src_ip6[3];

		if (a | b | c | d) {
			local[0] = a;
			local[1] = b;
			local[2] = c;
			local[3] = d;
		}
	}
	pf_put_ports(p, local_port, remote_port);
}

static __always_inline int pf_is_loopback(const __u8 *ip)
{
	const __u32 *word = (const __u32 *)ip;

	if (word[0] | word[1])
		return 0;
	return (word[2] == bpf_htonl(0xffff) && ip[12] == 127) || (!word[2] && word[3] == bpf_htonl(1));
}

/* Addresses of the loopback are left out, as they are for pods, unless they are asked for. */
static __always_inline int pf_wanted(struct pf_packet *p)
{
	struct pf_control *control;
	__u32 zero = 0;

	if (!pf_is_loopback(p->key.local_ip) && !pf_is_loopback(p->key.remote_ip))
		return 1;
	control = bpf_map_lookup_elem(&pilotfish_control, &zero);
	return control && control->loopback;
}

#endif
