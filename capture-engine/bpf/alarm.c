// SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
/* Tells of a container's network namespace before the container's first process runs: of the first
 * process that is forked or executes a program in a namespace that was not told of, where one of
 * its ancestors is a shim of containerd. Both come to pass while runc makes the container, some
 * milliseconds before containerd tells of the task and before it lets the process go.
 *
 * It changes nothing and keeps nobody waiting. A fork or exec in the node's namespace costs three
 * reads and a comparison, in a known one a lookup more, and in one that is no container's the walk
 * over its ancestors.
 * Loads on 6.1 and later (net->net_cookie: 5.12). It reads at offsets that user space finds, and
 * without CO-RE: for seven fields nobody has to build all of the kernel's BTF in memory. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "read.h"

/* Between a shim and the first process of a container are runc and its own helpers. */
#define ANCESTORS 6
/* A node starts some tens of containers a second. What is beyond is told by containerd alone. */
#define ALARMS 64
#define SECOND 1000000000ull

/* Where the running kernel keeps what is read; user space finds it in the kernel's BTF. */
volatile const __u32 pf_task_nsproxy = 0;
volatile const __u32 pf_task_parent = 0;
volatile const __u32 pf_task_tgid = 0;
volatile const __u32 pf_task_comm = 0;
volatile const __u32 pf_nsproxy_net = 0;
volatile const __u32 pf_net_cookie = 0;
volatile const __u32 pf_net_inum = 0;

/* `capture-engine/src/kernel/alarm.rs` holds these two in Rust. */
struct pf_alarm {
	__u64 cookie; /* of the namespace; the kernel gives none twice */
	__u32 inum; /* its inode; 0 never */
	__u32 pid; /* as the node counts */
	__u32 shim;
	__u32 pad;
};
struct pf_alarm_counts {
	__u64 told;
	__u64 crowded; /* more than ALARMS in a second, or no room in the ring */
	__u64 since; /* of this second */
	__u64 within; /* it */
};

/* Namespaces that were told of. When it is full, the one that nothing happened in for longest is
 * forgotten, and told of again when something does. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u32);
} pilotfish_known SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} pilotfish_alarms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pf_alarm_counts);
} pilotfish_alarmed SEC(".maps");

/* Of the node's own namespace. */
volatile const __u64 pf_node_cookie = 0;

static __always_inline int is_shim(const void *task)
{
	/* "containerd-shim-runc-v2" is cut to 15 characters. */
	static const char name[16] = "containerd-shim";
	char comm[16];

	if (bpf_probe_read_kernel(comm, sizeof(comm), (const char *)task + pf_task_comm))
		return 0;
#pragma unroll
	for (int i = 0; i < 16; i++)
		if (comm[i] != name[i])
			return 0;
	return 1;
}

/* Its tgid, or 0. */
static __always_inline __u32 shim_above(const void *task)
{
#pragma unroll
	for (int i = 0; i < ANCESTORS; i++) {
		task = GET(const void *, task, pf_task_parent);
		if (!task)
			return 0;
		if (is_shim(task))
			return GET(__u32, task, pf_task_tgid);
	}
	return 0;
}

/* Several processors may begin a second together: then it has some more. */
static __always_inline int is_crowded(struct pf_alarm_counts *counts)
{
	__u64 now = bpf_ktime_get_ns();

	if (now - counts->since > SECOND) {
		counts->since = now;
		counts->within = 0;
	}
	return __sync_fetch_and_add(&counts->within, 1) >= ALARMS;
}

static __always_inline int look(const void *task)
{
	const void *net = GET(const void *, GET(const void *, task, pf_task_nsproxy), pf_nsproxy_net);
	__u64 cookie = GET(__u64, net, pf_net_cookie);
	__u32 zero = 0, shim;

	/* 0: a process that ends. */
	if (!cookie || cookie == pf_node_cookie || bpf_map_lookup_elem(&pilotfish_known, &cookie))
		return 0;
	shim = shim_above(task);
	if (!shim)
		return 0;
	struct pf_alarm_counts *counts = bpf_map_lookup_elem(&pilotfish_alarmed, &zero);
	if (!counts)
		return 0;
	if (is_crowded(counts)) {
		__sync_fetch_and_add(&counts->crowded, 1);
		return 0;
	}
	if (bpf_map_update_elem(&pilotfish_known, &cookie, &shim, BPF_NOEXIST))
		return 0;
	struct pf_alarm *alarm = bpf_ringbuf_reserve(&pilotfish_alarms, sizeof(*alarm), 0);
	if (!alarm) {
		bpf_map_delete_elem(&pilotfish_known, &cookie);
		__sync_fetch_and_add(&counts->crowded, 1);
		return 0;
	}
	alarm->cookie = cookie;
	alarm->inum = GET(__u32, net, pf_net_inum);
	alarm->pid = GET(__u32, task, pf_task_tgid);
	alarm->shim = shim;
	alarm->pad = 0;
	bpf_ringbuf_submit(alarm, BPF_RB_FORCE_WAKEUP);
	__sync_fetch_and_add(&counts->told, 1);
	return 0;
}

/* (parent, child): the child is in the tables of processes and does not run yet. */
SEC("raw_tp/sched_process_fork")
int pilotfish_fork(struct bpf_raw_tracepoint_args *ctx)
{
	return look((const void *)ctx->args[1]);
}

/* (task, its pid before, program): the program is loaded and does not run yet. */
SEC("raw_tp/sched_process_exec")
int pilotfish_exec(struct bpf_raw_tracepoint_args *ctx)
{
	return look((const void *)ctx->args[0]);
}

char _license[] SEC("license") = "Dual BSD/GPL";
