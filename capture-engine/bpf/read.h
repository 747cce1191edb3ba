/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Reads the kernel's memory at offsets that user space finds in the kernel's BTF: without CO-RE, since for a few fields
 * nobody has to build all of the BTF in memory. */
#ifndef PILOTFISH_READ_H
#define PILOTFISH_READ_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* 0 where there is nothing to be read. */
#define GET(type, pointer, offset) ({ \
	type value = 0; \
	bpf_probe_read_kernel(&value, sizeof(value), (const char *)(pointer) + (offset)); \
	value; \
})

#endif
