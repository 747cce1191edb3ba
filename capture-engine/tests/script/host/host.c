/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The kernel programs as a library of a test: the same C, over maps and a ring that are arrays. One
 * thread; a second CPU is another packet that is handled whole between two helpers of a first one. */
#include <string.h>
#include <stdlib.h>
#include "pilotfish_netns.c"

#define HOST_FLOWS 16
#define HOST_RING (1 << 20)
#define HOST_ASIDE 256

struct host_flow {
	__u32 used;
	struct pf_key key;
	struct pf_flow flow;
};

static struct host_flow flows[HOST_FLOWS];
static struct pf_cpu cpus[2][PF_AREAS];
static __u32 cpu;
static struct pf_control control;
static struct pf_ports ports;
static struct pf_frames frames;
static struct pf_override override;
static struct pf_walk walk;
/* 0: no flow is walked. */
static __u8 command;
static __u32 straight;
static __u32 header[2];
/* Servers whose new connections are copied whole: all or none. */
static __u8 eager;
/* 0, or PF_FRAMES_LINES_*: ends of request lines are counted. */
static __u8 lines;
/* Each record: its length and whether it counts, 4 bytes each, then its bytes, to a multiple of 8. */
static __u8 ring[HOST_RING] __attribute__((aligned(8)));
static __u32 ring_end;
static __u32 ring_bytes = HOST_RING;
/* Ends that lie aside, and how many find room there, HOST_ASIDE at most. */
static struct pf_closed aside[HOST_ASIDE];
static __u32 asides, aside_room = HOST_ASIDE;
static __u64 seen;
static struct pf_answer answers[PF_ANSWERS];
/* Flows that find room, HOST_FLOWS at most. */
static int room = HOST_FLOWS;
static __u64 now;
static const __u8 *frame;
static __u32 frame_length;

/* What the other CPU handles, and after how many calls of helpers of the next packet. */
static struct {
	const __u8 *bytes;
	__u32 length;
	__u32 slot;
	__u32 dir;
	__u32 calls;
} meanwhile;

static int handle(__u32 slot, __u32 dir, const __u8 *bytes, __u32 length);

/* A helper is called. While a packet holds a lock, another one of its flow would wait. */
static void called(void)
{
	const __u8 *before = frame;
	__u32 length = frame_length;

	for (int i = 0; i < HOST_FLOWS; i++)
		if (flows[i].used && flows[i].flow.lock)
			return;
	if (!meanwhile.bytes || meanwhile.calls--)
		return;
	frame = meanwhile.bytes;
	meanwhile.bytes = 0;
	cpu = 1;
	handle(meanwhile.slot, meanwhile.dir, frame, meanwhile.length);
	cpu = 0;
	frame = before;
	frame_length = length;
}

static void *bpf_map_lookup_elem(void *map, const void *key)
{
	called();
	if (map == &pilotfish_stats)
		return &cpus[cpu][*(const __u32 *)key];
	if (map == &pilotfish_control)
		return &control;
	if (map == &pilotfish_ports)
		return &ports;
	if (map == &pilotfish_seen)
		return &seen;
	if (map == &pilotfish_answers)
		return &answers[*(const __u32 *)key];
	if (map == &pilotfish_frames)
		return *(const __u32 *)key ? 0 : &frames;
	if (map == &pilotfish_override && (!((const struct pf_key *)key)->local_port || !((const struct pf_key *)key)->remote_port))
		return eager ? &override : 0;
	if (map == &pilotfish_override || map == &pilotfish_walks) {
		struct pf_flow *flow = command || lines ? bpf_map_lookup_elem(&pilotfish_flows, key) : 0;

		/* What user space would have asked for of the flow, whichever has the key. */
		if (!flow)
			return 0;
		if (walk.flow_id != flow->flow_id) {
			memset(&walk, 0, sizeof(walk));
			walk.flow_id = flow->flow_id;
			walk.frames = 1;
		}
		override = (struct pf_override){ flow->flow_id, PF_BUDGET_EVERYTHING, lines ? lines : 1, straight, command, 0, { header[0], header[1] } };
		return map == &pilotfish_walks ? (void *)&walk : &override;
	}
	if (map != &pilotfish_flows)
		return 0;
	for (int i = 0; i < HOST_FLOWS; i++)
		if (flows[i].used && !memcmp(&flows[i].key, key, sizeof(flows[i].key)))
			return &flows[i].flow;
	return 0;
}

static long bpf_map_update_elem(void *map, const void *key, const void *value, __u64 flags)
{
	if (map != &pilotfish_flows || flags != BPF_NOEXIST)
		abort();
	called();
	for (int i = 0; i < HOST_FLOWS; i++)
		if (flows[i].used && !memcmp(&flows[i].key, key, sizeof(flows[i].key)))
			return -1;
	for (int i = 0; i < room; i++) {
		if (flows[i].used)
			continue;
		flows[i].used = 1;
		memcpy(&flows[i].key, key, sizeof(flows[i].key));
		memcpy(&flows[i].flow, value, sizeof(flows[i].flow));
		return 0;
	}
	return -1;
}

static long bpf_skb_load_bytes(const void *skb, __u32 at, void *to, __u32 length)
{
	(void)skb;
	called();
	if (at > frame_length || length > frame_length - at)
		return -1;
	memcpy(to, frame + at, length);
	return 0;
}

static void *bpf_ringbuf_reserve(void *map, __u64 size, __u64 flags)
{
	__u32 *head;
	__u64 end;

	(void)map, (void)flags;
	called();
	head = (__u32 *)(ring + ring_end);
	end = ring_end + 8 + ((size + 7) & ~7ULL);
	/* The kernel keeps one byte free. */
	if (end >= ring_bytes)
		return 0;
	head[0] = size;
	head[1] = 1;
	ring_end = end;
	return head + 2;
}

static void bpf_ringbuf_submit(void *record, __u64 flags)
{
	(void)record, (void)flags;
}

static void bpf_ringbuf_discard(void *record, __u64 flags)
{
	(void)flags;
	((__u32 *)record)[-1] = 0;
}

static long bpf_ringbuf_output(void *map, void *record, __u64 size, __u64 flags)
{
	void *room = bpf_ringbuf_reserve(map, size, flags);

	if (!room)
		return -1;
	memcpy(room, record, size);
	return 0;
}

static __u64 bpf_ringbuf_query(void *map, __u64 flags)
{
	(void)map, (void)flags;
	called();
	return ring_end;
}

static long bpf_map_push_elem(void *map, const void *value, __u64 flags)
{
	if (map != &pilotfish_aside || flags)
		abort();
	called();
	if (asides >= aside_room)
		return -1;
	memcpy(&aside[asides++], value, sizeof(aside[0]));
	return 0;
}

static long bpf_loop(__u32 times, long (*step)(__u32, void *), void *context, __u64 flags)
{
	(void)flags;
	for (__u32 i = 0; i < times; i++)
		if (step(i, context))
			return i + 1;
	return times;
}

static __u64 bpf_ktime_get_ns(void)
{
	called();
	return now += 1000;
}

static __u64 bpf_ktime_get_coarse_ns(void)
{
	return now;
}

static __u64 bpf_jiffies64(void)
{
	return now / 4000000;
}

static __u32 bpf_get_smp_processor_id(void)
{
	return cpu;
}

/* All is as after a load with these budgets, and places of answers are in use no longer. */
void host_reset(__u32 head_bytes)
{
	now += 2 * PF_ANSWER_HELD_NS;
	memset(flows, 0, sizeof(flows));
	ring_end = 0;
	ring_bytes = HOST_RING;
	asides = 0;
	aside_room = HOST_ASIDE;
	room = HOST_FLOWS;
	command = eager = lines = 0;
	memset(&walk, 0, sizeof(walk));
	memset(&control, 0, sizeof(control));
	control.head_bytes = head_bytes;
	control.data_bytes = ring_bytes - ring_bytes / 8;
	control.opening_share = control.opening_room = HOST_FLOWS;
	control.flows_room = HOST_FLOWS;
	control.udp_datagrams = 2;
	if (!ports.marks[0])
		memset(&ports, PF_PORT_INCLUDED, sizeof(ports));
}

/* From here on flows are walked; `bits`: a header begins at these numbers. */
void host_walk(const struct pf_frames *how, __u32 bits, __u32 in, __u32 out)
{
	frames = *how;
	straight = bits;
	header[0] = in;
	header[1] = out;
	command++;
	control.overrides = 1;
	control.commands++;
}

/* From here on ends of request lines are counted, by PF_FRAMES_LINES_*; 0: no longer. */
void host_lines(__u32 how)
{
	lines = how;
	control.overrides = how != 0;
}

/* From here on new connections are copied whole: their servers are known. */
void host_eager(__u32 unused)
{
	(void)unused;
	eager = 1;
	control.servers = 1;
}

/* From here on the ring has so many bytes, HOST_RING at most. */
void host_ring_bytes(__u32 bytes)
{
	ring_bytes = bytes;
	control.data_bytes = bytes - bytes / 8;
}

/* From here on so many ends find room aside, HOST_ASIDE at most. */
void host_aside_room(__u32 ends)
{
	aside_room = ends;
}

/* From here on so many flows find room, HOST_FLOWS at most. */
void host_room(__u32 flows)
{
	room = flows;
}

/* What packets without a flow showed: answers to a pod and from it, and those that found no place. */
const __u8 *host_answers(__u32 *length)
{
	static __u64 counts[3];

	counts[0] = control.answers[0];
	counts[1] = control.answers[1];
	counts[2] = cpus[0][0].stats.count[PF_STAT_ANSWERS_FULL] + cpus[1][0].stats.count[PF_STAT_ANSWERS_FULL];
	*length = sizeof(counts);
	return (const __u8 *)counts;
}

/* The ring was read. */
void host_empty(__u32 unused)
{
	(void)unused;
	ring_end = 0;
}

/* What lay aside was taken. */
void host_empty_aside(__u32 unused)
{
	(void)unused;
	asides = 0;
}

static int handle(__u32 slot, __u32 dir, const __u8 *bytes, __u32 length)
{
	struct __sk_buff skb = { .len = length, .protocol = bpf_htons(ETH_P_IP), .cb = { slot, dir } };

	/* No linear part: all is read by bpf_skb_load_bytes. */
	frame = bytes;
	frame_length = length;
	return pilotfish_netns(&skb);
}

/* While the next packet is handled, after so many calls of helpers, another CPU handles this one, or right after it. */
void host_meanwhile(__u32 slot, __u32 dir, const __u8 *bytes, __u32 length, __u32 calls)
{
	meanwhile.bytes = bytes;
	meanwhile.length = length;
	meanwhile.slot = slot;
	meanwhile.dir = dir;
	meanwhile.calls = calls;
}

/* Its program's verdict. */
int host_packet(__u32 slot, __u32 dir, const __u8 *bytes, __u32 length)
{
	int verdict = handle(slot, dir, bytes, length);

	if (meanwhile.bytes) {
		meanwhile.calls = 0;
		called();
	}
	return verdict;
}

/* Ends that lie aside. */
const __u8 *host_aside(__u32 *length)
{
	*length = asides * sizeof(aside[0]);
	return (const __u8 *)aside;
}

const __u8 *host_ring(__u32 *length)
{
	*length = ring_end;
	return ring;
}

/* HOST_FLOWS entries: a word that is not 0 where there is one, its key, the flow. */
const __u8 *host_flows(__u32 *length)
{
	*length = sizeof(flows);
	return (const __u8 *)flows;
}
