/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* From a packet's bytes to its flow key and TCP fields. Reads only. */
#ifndef PILOTFISH_PACKET_H
#define PILOTFISH_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "maps.h"

#define PF_MAX_VLANS 2
#define PF_MAX_EXTENSIONS 6 /* IPv6 extension headers followed; RFC 8200 4.1 lists each kind once, one twice */

#define PF_TCP_FIN 1
#define PF_TCP_SYN 2
#define PF_TCP_RST 4
#define PF_TCP_ACK 16

#define PF_PARSED -1

struct pf_eth {
	__u8 addresses[12];
	__be16 proto;
};
struct pf_vlan {
	__be16 tag;
	__be16 proto;
};
struct pf_ipv4 {
	__u8 version_length;
	__u8 tos;
	__be16 total;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 proto;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};
struct pf_ipv6 {
	__be32 version_class;
	__be16 payload;
	__u8 next;
	__u8 hops;
	__be32 source[4];
	__be32 destination[4];
};
struct pf_tcp {
	__be16 source;
	__be16 destination;
	__be32 seq;
	__be32 ack;
	__u8 length;
	__u8 flags;
	__be16 window;
	__be32 checksum_urgent;
};
struct pf_udp {
	__be16 source;
	__be16 destination;
	__be16 length;
	__be16 checksum;
};

/* The bytes at `at`, in place where they lie in the linear part, else copied into `buf`; 0 when the
 * packet ends before. */
static __always_inline void *pf_header(struct __sk_buff *skb, __u32 at, void *buf, const __u32 size)
{
	void *start = (void *)(long)skb->data + at;

	if (start + size <= (void *)(long)skb->data_end)
		return start;
	if (bpf_skb_load_bytes(skb, at, buf, size))
		return 0;
	return buf;
}

/* Where L3 begins, in the low half, and its protocol (as in the skb) in the high half; negative
 * when neither is found. An interface without L2 is not marked as such in the skb: there, the first
 * byte is an IP version and bytes 12-13 are part of an address. They equal the protocol number by
 * chance only for sources in 8.0.0.0/16.
 *
 * This and the other functions that are not inlined are verified on their own, once, instead of
 * once for each way through their callers. */
__noinline long pf_find_l3(struct __sk_buff *skb)
{
	struct pf_eth eth_buf, *eth = pf_header(skb, 0, &eth_buf, sizeof(eth_buf));
	__u32 l3 = sizeof(*eth);
	__be16 proto;

	if (!eth)
		return -1;
	proto = eth->proto;
	if (proto != (__be16)skb->protocol) {
		__u8 version = eth->addresses[0] >> 4;

		if ((skb->protocol == bpf_htons(ETH_P_IP) && version == 4) || (skb->protocol == bpf_htons(ETH_P_IPV6) && version == 6))
			return (__u32)skb->protocol << 16;
	}
#pragma unroll
	for (int i = 0; i < PF_MAX_VLANS; i++) {
		struct pf_vlan vlan_buf, *vlan;

		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		vlan = pf_header(skb, l3, &vlan_buf, sizeof(vlan_buf));
		if (!vlan)
			return -1;
		proto = vlan->proto;
		l3 += sizeof(*vlan);
	}
	return (__u32)proto << 16 | l3;
}

/* The key is hashed in words of 4 bytes, and a load of what two stores wrote waits until both are
 * in the cache (5 ns): so the parts of a word are put together before they are stored. */
static __always_inline void pf_set_proto(struct pf_packet *p, __u8 proto)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	*(__u32 *)&p->key.proto = proto;
#else
	*(__u32 *)&p->key.proto = (__u32)proto << 24;
#endif
}

static __always_inline void pf_put_ports(struct pf_packet *p, __u32 local, __u32 remote)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	*(__u32 *)&p->key.local_port = remote << 16 | local;
#else
	*(__u32 *)&p->key.local_port = local << 16 | remote;
#endif
}

static __always_inline void pf_set_ports(struct pf_packet *p, int dir, __be16 source, __be16 destination)
{
	__u32 from = bpf_ntohs(source), to = bpf_ntohs(destination);

	if (dir == PF_INGRESS)
		pf_put_ports(p, to, from);
	else
		pf_put_ports(p, from, to);
}

static __always_inline void pf_map_ipv4(__u8 *ip, __be32 address)
{
	__u32 *word = (__u32 *)ip;

	word[0] = 0;
	word[1] = 0;
	word[2] = bpf_htonl(0xffff);
	word[3] = address;
}

static __always_inline int pf_parse_ipv4(struct __sk_buff *skb, int dir, __u32 l3, struct pf_packet *p, __u32 *l4)
{
	struct pf_ipv4 buf, *ip = pf_header(skb, l3, &buf, sizeof(buf));
	__u32 header;

	if (!ip || ip->version_length >> 4 != 4)
		return PF_STAT_UNPARSED;
	if (ip->proto != IPPROTO_TCP && ip->proto != IPPROTO_UDP)
		return PF_STAT_OTHER;
	if (ip->fragment & bpf_htons(0x1fff))
		return PF_STAT_FRAGMENTS;
	header = (ip->version_length & 15) * 4;
	if (header < sizeof(*ip))
		return PF_STAT_UNPARSED;
	/* 0: more than 64 KiB in one GSO packet */
	p->ip_bytes = ip->total ? bpf_ntohs(ip->total) : skb->len - l3;
	pf_set_proto(p, ip->proto);
	pf_map_ipv4(p->key.local_ip, dir == PF_INGRESS ? ip->destination : ip->source);
	pf_map_ipv4(p->key.remote_ip, dir == PF_INGRESS ? ip->source : ip->destination);
	*l4 = l3 + header;
	return PF_PARSED;
}

/* Follows the extension headers from `at` on, the first of kind `next`: where L4 begins and its
 * protocol in bits 24-31; negative: -1 and the pf_stat to count. */
__noinline long pf_skip_extensions(struct __sk_buff *skb, __u32 at, __u32 next)
{
	for (int i = 0; i < PF_MAX_EXTENSIONS; i++) {
		struct {
			__u8 next;
			__u8 length;
			__be16 fragment;
		} extension;

		if (next == IPPROTO_TCP || next == IPPROTO_UDP)
			return next << 24 | (at & 0xffffff);
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT &&
		    next != IPPROTO_AH)
			return -1 - PF_STAT_OTHER;
		if (bpf_skb_load_bytes(skb, at, &extension, sizeof(extension)))
			break;
		if (next == IPPROTO_FRAGMENT) {
			if (extension.fragment & bpf_htons(0xfff8))
				return -1 - PF_STAT_FRAGMENTS;
			at += 8;
		} else if (next == IPPROTO_AH) {
			at += ((__u32)extension.length + 2) * 4; /* RFC 4302 2.2 */
		} else {
			at += ((__u32)extension.length + 1) * 8; /* RFC 8200 4.2 */
		}
		next = extension.next;
	}
	return -1 - PF_STAT_UNPARSED;
}

static __always_inline int pf_parse_ipv6(struct __sk_buff *skb, int dir, __u32 l3, struct pf_packet *p, __u32 *l4)
{
	struct pf_ipv6 buf, *ip = pf_header(skb, l3, &buf, sizeof(buf));
	__u8 next;
	long found;

	if (!ip || *(__u8 *)ip >> 4 != 6)
		return PF_STAT_UNPARSED;
	next = ip->next;
	/* 0: a jumbogram (RFC 2675) */
	p->ip_bytes = ip->payload ? bpf_ntohs(ip->payload) + (__u32)sizeof(*ip) : skb->len - l3;
	__builtin_memcpy(p->key.local_ip, dir == PF_INGRESS ? ip->destination : ip->source, 16);
	__builtin_memcpy(p->key.remote_ip, dir == PF_INGRESS ? ip->source : ip->destination, 16);
	l3 += sizeof(*ip);
	if (next != IPPROTO_TCP && next != IPPROTO_UDP) {
		found = pf_skip_extensions(skb, l3, next);
		if (found < 0)
			return -1 - found;
		next = found >> 24;
		l3 = found & 0x3fff;
	}
	pf_set_proto(p, next);
	*l4 = l3;
	return PF_PARSED;
}

static __always_inline int pf_parse_l3(struct __sk_buff *skb, int dir, __u32 l3, __be16 proto, struct pf_packet *p)
{
	__u32 l4 = 0, end;
	int result;

	if (proto == bpf_htons(ETH_P_IP))
		result = pf_parse_ipv4(skb, dir, l3, p, &l4);
	else if (proto == bpf_htons(ETH_P_IPV6))
		result = pf_parse_ipv6(skb, dir, l3, p, &l4);
	else
		result = PF_STAT_OTHER;
	if (result != PF_PARSED)
		return result;

	end = l3 + p->ip_bytes; /* the frame may be padded behind it */
	if (p->key.proto == IPPROTO_TCP) {
		struct pf_tcp buf, *tcp = pf_header(skb, l4, &buf, sizeof(buf));

		if (!tcp)
			return PF_STAT_UNPARSED;
		pf_set_ports(p, dir, tcp->source, tcp->destination);
		p->seq = bpf_ntohl(tcp->seq);
		p->ack = bpf_ntohl(tcp->ack);
		p->window = bpf_ntohs(tcp->window);
		p->tcp_flags = tcp->flags;
		p->payload_at = l4 + (tcp->length >> 4) * 4;
		if ((tcp->length >> 4) < 5 || p->payload_at > end)
			return PF_STAT_UNPARSED;
		p->payload = end - p->payload_at;
	} else {
		struct pf_udp buf, *udp = pf_header(skb, l4, &buf, sizeof(buf));

		if (!udp)
			return PF_STAT_UNPARSED;
		pf_set_ports(p, dir, udp->source, udp->destination);
		p->seq = 0;
		p->ack = 0;
		p->window = 0;
		p->tcp_flags = 0;
		p->payload_at = l4 + sizeof(*udp);
		if (p->payload_at > end)
			return PF_STAT_UNPARSED;
		/* The first fragment's UDP header tells the whole datagram's length. */
		p->payload = end - p->payload_at;
		if (bpf_ntohs(udp->length) > p->payload + sizeof(*udp))
			p->payload = bpf_ntohs(udp->length) - sizeof(*udp);
		else
			end = p->payload_at + p->payload;
	}
	if (end > skb->len)
		end = skb->len;
	p->held = end > p->payload_at ? end - p->payload_at : 0;
	if (p->held > p->payload)
		p->held = p->payload;
	return PF_PARSED;
}

/* PF_PARSED, or the pf_stat to count. */
__noinline int pf_parse(struct __sk_buff *skb, int dir, struct pf_packet *p)
{
	long found;

	if (!p)
		return PF_STAT_OTHER;
	found = pf_find_l3(skb);
	if (found < 0)
		return PF_STAT_OTHER;
	return pf_parse_l3(skb, dir, found & 0x3f, found >> 16, p);
}

/* The same of a packet as a socket's cgroup sees it: from L3 on. */
__noinline int pf_parse_host(struct __sk_buff *skb, int dir, struct pf_packet *p)
{
	if (!p)
		return PF_STAT_OTHER;
	return pf_parse_l3(skb, dir, 0, skb->protocol, p);
}

#endif
