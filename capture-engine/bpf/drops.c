// SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
/* Counts the packets that the kernel drops, by reason and network namespace: for reasons that user
 * space wants to hear of, and for no other.
 *
 * It changes nothing. A drop for another reason costs a comparison, one that is counted two reads
 * and a lookup, and nothing while nobody has it loaded; docs/benchmarks.md has figures.
 * Loads on 6.1 and later; the tracepoint says why since 5.17. It reads at offsets that user space
 * finds, and without CO-RE, as alarm.c does. What each drop takes is read as the kernel reads it: the
 * verifier knows what the packet is, and faults are 0, as with the helper, which costs 10 times as
 * much. A socket is read by the helper: where the verifier trusts it, a fault would be one. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "read.h"

/* Reasons of the kernel itself; 128 of 6.18. Those of subsystems have numbers above 65535. */
#define REASONS 256
/* Pairs of a namespace and a reason, and those of them that each processor has at hand; user space sets
 * how many. */
#define PAIRS 2048
#define AT_HAND 128
/* Times that a pair is counted before its namespace is looked at again: another may have its place. */
#define TRUSTED 64

/* Where the running kernel keeps what is read; user space finds it in the kernel's BTF. */
volatile const __u32 pf_skb_dev = 0;
volatile const __u32 pf_skb_sk = 0;
volatile const __u32 pf_dev_net = 0;
volatile const __u32 pf_sock_net = 0;
volatile const __u32 pf_net_loopback = 0;
volatile const __u32 pf_net_inum = 0;
/* Whether the tracepoint has the receiving socket as its fourth argument: since 6.11. */
volatile const __u32 pf_has_receiver = 0;
/* AT_HAND as it was set; a power of two. */
volatile const __u32 pf_at_hand = AT_HAND;
/* By the kernel's number of a reason: 1 + its place in the list of those that are wanted, else 0. */
volatile const __u8 pf_wanted[REASONS] = {};

/* A field of what the verifier knows to be a pointer of the kernel's, and that may be no longer one. */
#define FIELD(type, pointer, offset) (*(type const *)((const char *)(pointer) + (offset)))

/* A pair, and what was counted of it since it is here. */
struct pf_pair {
	__u64 net; /* the kernel's address of the namespace; 0 where it is not known */
	__u64 pair; /* place of the reason << 32 | inode of the namespace */
	__u64 count;
};

/* By namespace and reason, as the hash of both has it. A lookup in a hash table would cost as much as all
 * the rest. What makes room here goes there. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, AT_HAND);
	__type(key, __u32);
	__type(value, struct pf_pair);
} pilotfish_at_hand SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, PAIRS);
	__type(key, __u64);
	__type(value, __u64);
} pilotfish_dropped SEC(".maps");

/* Drops for which there was no room. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} pilotfish_missed SEC(".maps");

/* Inode of this namespace, or 0 where it is none: its loopback interface has to be in it. Where a
 * packet's interface stands, the kernel keeps other things while the packet is in a queue of a socket. */
static __always_inline __u32 inode_of(const void *net)
{
	const void *loopback = GET(const void *, net, pf_net_loopback);

	if (!loopback || GET(const void *, loopback, pf_dev_net) != net)
		return 0;
	return GET(__u32, net, pf_net_inum);
}

static __always_inline void put_away(const struct pf_pair *hand)
{
	__u64 *count = bpf_map_lookup_elem(&pilotfish_dropped, &hand->pair);
	__u32 zero = 0;

	if (!count && bpf_map_update_elem(&pilotfish_dropped, &hand->pair, &hand->count, BPF_NOEXIST)) {
		/* There is no room, or another processor was first. */
		count = bpf_map_lookup_elem(&pilotfish_dropped, &hand->pair);
		if (!count)
			count = bpf_map_lookup_elem(&pilotfish_missed, &zero);
	} else if (!count) {
		return;
	}
	if (count)
		*count += hand->count;
}

/* Of an address, for a hash. It has to be moved: to the verifier it is a pointer, with which there is no arithmetic. */
static __always_inline __u32 low_half(const void *address)
{
	__u32 low;

	asm("%0 = %1" : "=w"(low) : "w"((__u32)(__u64)address));
	return low;
}

/* Whether it was counted: `net` is a namespace, or 0. */
static __noinline int counted(const void *net, __u32 reason)
{
	__u32 hash = (low_half(net) + reason) * 0x9e3779b1u;
	__u32 place = (hash >> 16) & (pf_at_hand - 1), inode = 0;
	struct pf_pair *hand = bpf_map_lookup_elem(&pilotfish_at_hand, &place);

	if (!hand)
		return 0;
	if (hand->net == (__u64)net && hand->pair >> 32 == reason && hand->count % TRUSTED) {
		hand->count += 1;
		return 1;
	}
	if (net) {
		inode = inode_of(net);
		if (!inode)
			return 0;
	}
	if (hand->pair != ((__u64)reason << 32 | inode)) {
		if (hand->count)
			put_away(hand);
		hand->count = 0;
		hand->pair = (__u64)reason << 32 | inode;
	}
	hand->net = (__u64)net;
	hand->count += 1;
	return 1;
}

static __always_inline int counted_by(const void *socket, __u32 reason)
{
	const void *of = socket ? GET(const void *, socket, pf_sock_net) : 0;

	return of ? counted(of, reason) : 0;
}

/* (packet, place in the code, reason, receiving socket) */
SEC("tp_btf/kfree_skb")
int pilotfish_drop(__u64 *ctx)
{
	const void *skb = (const void *)ctx[0], *device, *net;
	__u32 reason = (__u32)ctx[2];

	if (reason >= REASONS || !pf_wanted[reason])
		return 0;
	reason = pf_wanted[reason] - 1;
	/* A packet that crosses to another namespace has its interface there, and may have its sender's socket yet. */
	device = FIELD(const void *, skb, pf_skb_dev);
	net = device ? FIELD(const void *, device, pf_dev_net) : 0;
	if (net && counted(net, reason))
		return 0;
	/* An argument of the tracepoint that may be 0, and that the verifier of some kernels believes never is. */
	if (pf_has_receiver && counted_by(GET(const void *, ctx, 3 * sizeof(*ctx)), reason))
		return 0;
	if (counted_by(GET(const void *, skb, pf_skb_sk), reason))
		return 0;
	counted(0, reason);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
