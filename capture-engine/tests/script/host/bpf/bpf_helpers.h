/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What the kernel programs call, for their build as part of a test: defined in `host.c`. */
#ifndef PILOTFISH_TEST_BPF_HELPERS_H
#define PILOTFISH_TEST_BPF_HELPERS_H

#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name)
#define __uint(name, val) int(*name)[val]
#define __type(name, val) val *name
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))

static void *bpf_map_lookup_elem(void *map, const void *key);
static long bpf_map_update_elem(void *map, const void *key, const void *value, __u64 flags);
static long bpf_skb_load_bytes(const void *skb, __u32 at, void *to, __u32 length);
static void *bpf_ringbuf_reserve(void *ring, __u64 size, __u64 flags);
static void bpf_ringbuf_submit(void *record, __u64 flags);
static void bpf_ringbuf_discard(void *record, __u64 flags);
static long bpf_ringbuf_output(void *ring, void *record, __u64 size, __u64 flags);
static __u64 bpf_ringbuf_query(void *ring, __u64 flags);
static long bpf_map_push_elem(void *map, const void *value, __u64 flags);
static long bpf_loop(__u32 times, long (*step)(__u32, void *), void *context, __u64 flags);
static __u64 bpf_ktime_get_ns(void);
static __u64 bpf_ktime_get_coarse_ns(void);
static __u64 bpf_jiffies64(void);
static __u32 bpf_get_smp_processor_id(void);

#endif
