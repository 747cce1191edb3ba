// SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
/* All TCP and UDP sockets that processes of this node hold, one record each: who, in which namespace, between whom.
 * One pass over 20,000 sockets costs some 30 ms; nothing is attached to anything, the program runs
 * only while its file is read. Loads on 6.1 and later (iter/task_file, bpf_sock_from_file: 5.11).
 *
 * It is loaded as bare instructions: no maps, no relocations. Where the kernel keeps a field is a
 * constant that user space puts in when it loads the program (`netns-scanner/src/program.rs`), from
 * the few types of the kernel's BTF that are needed. Reading all of it costs a library 30 ms and 30
 * MB, more than a pass over 20,000 sockets. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262
#define TCP_LISTEN 10

/* Connections of one MPTCP socket that are followed; by default the kernel makes 3 at most. Where
 * there may be more, user space asks sock_diag as well. Each one costs the verifier half a
 * millisecond at every load: 65 of them, as many as a kernel allows, took it 32 ms. */
#define SUBFLOWS 4

typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

/* The order of `FIELDS` in program.rs. */
enum field {
	SOCKET_SK,
	SK_FAMILY,
	SK_STATE,
	SK_NUM,
	SK_DPORT,
	SK_DADDR,
	SK_RCV_SADDR,
	SK_V6_DADDR,
	SK_V6_RCV_SADDR,
	SK_NET,
	SK_PROTOCOL,
	SK_ACK_BACKLOG,
	NET_INUM,
	TASK_TGID,
	SK_CGROUP,
	CGROUP_KN,
	KERNFS_NODE_ID,
	SK_MAX_ACK_BACKLOG,
	SK_V6ONLY, /* in bits: it is one */
	MPTCP_CONN_LIST,
	SUBFLOW_NODE,
	SUBFLOW_TCP_SOCK,
};

/* A 64-bit constant that is recognised by its upper half and replaced by the field's offset. The
 * compiler sees a number that it knows nothing of. */
#define OFFSET_OF(field) ({ \
	u64 offset; \
	asm("%0 = %1 ll" : "=r"(offset) : "i"(0x7066736300000000ull + (field))); \
	offset; \
})

#define GET(type, pointer, field) ({ \
	type value = 0; \
	bpf_probe_read_kernel(&value, sizeof(value), (const char *)(pointer) + OFFSET_OF(field)); \
	value; \
})

/* Stable by the kernel's word: each member is 8 bytes wide and stays in its place. */
struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	void *task;
	u64 fd;
	struct file *file;
};

/* `netns-scanner/src/iterator.rs` holds the same in Rust. */
struct pf_socket {
	u64 cgroup_id; /* that the socket was made in, of the v2 hierarchy; 0 when there is none */
	u32 pid;
	u32 netns_ino;
	u32 local_ip[4]; /* network order; IPv4 in [3] with ::ffff: before it */
	u32 remote_ip[4];
	u16 local_port; /* host order */
	u16 remote_port;
	u16 waiting; /* sockets without a file that hang on this one: connections that nobody accepted yet */
	unsigned char state; /* TCP_ESTABLISHED = 1 .. TCP_LISTEN = 10 */
	unsigned char proto;
	u32 backlog; /* of listen(2), which a connection that was accepted has from its listener */
	unsigned char v6only; /* takes no IPv4 (IPV6_V6ONLY) */
	unsigned char pad[3];
};

static __always_inline void v4(u32 *out, u32 address)
{
	out[0] = 0;
	out[1] = 0;
	out[2] = __builtin_bswap32(0xffff);
	out[3] = address;
}

SEC("iter/task_file")
int pilotfish_socks(struct bpf_iter__task_file *ctx)
{
	void *task = ctx->task;
	struct file *file = ctx->file;

	if (!task || !file)
		return 0;
	void *socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	const char *sk = GET(void *, socket, SOCKET_SK);
	if (!sk)
		return 0;
	/* The socket behind an MPTCP descriptor carries nothing: what listens and what is on the wire
	 * are TCP sockets that hang on it, from the first one on. */
	const char *head = 0, *node = 0;
	if (GET(u16, sk, SK_PROTOCOL) == IPPROTO_MPTCP && OFFSET_OF(MPTCP_CONN_LIST))
		head = node = sk + OFFSET_OF(MPTCP_CONN_LIST);

#pragma clang loop unroll(disable)
	for (int i = 0; i < SUBFLOWS; i++) {
		if (head) {
			/* A list's first member is its next one. One that is changed meanwhile leads to
			 * memory that is no socket, or to none. */
			bpf_probe_read_kernel(&node, sizeof(node), node);
			if (!node || node == head)
				break;
			sk = GET(void *, node - OFFSET_OF(SUBFLOW_NODE), SUBFLOW_TCP_SOCK);
		}
		u16 family = GET(u16, sk, SK_FAMILY);
		u16 proto = GET(u16, sk, SK_PROTOCOL);
		if ((family != AF_INET && family != AF_INET6) || (proto != IPPROTO_TCP && proto != IPPROTO_UDP))
			break;

		struct pf_socket out = {
			.pid = GET(u32, task, TASK_TGID),
			.local_port = GET(u16, sk, SK_NUM),
			.remote_port = __builtin_bswap16(GET(u16, sk, SK_DPORT)),
			.state = GET(unsigned char, sk, SK_STATE),
			.proto = (unsigned char)proto,
			.backlog = GET(u32, sk, SK_MAX_ACK_BACKLOG),
		};
		out.netns_ino = GET(u32, GET(void *, sk, SK_NET), NET_INUM);
		u32 waiting = i == SUBFLOWS - 1;
		if (out.state == TCP_LISTEN)
			waiting = GET(u32, sk, SK_ACK_BACKLOG);
		out.waiting = waiting > 0xffff ? 0xffff : (u16)waiting;
		void *cgroup = OFFSET_OF(SK_CGROUP) ? GET(void *, sk, SK_CGROUP) : 0;
		if (cgroup)
			out.cgroup_id = GET(u64, GET(void *, cgroup, CGROUP_KN), KERNFS_NODE_ID);
		if (family == AF_INET) {
			v4(out.local_ip, GET(u32, sk, SK_RCV_SADDR));
			v4(out.remote_ip, GET(u32, sk, SK_DADDR));
		} else {
			unsigned char bits = 0;
			bpf_probe_read_kernel(&bits, 1, sk + (OFFSET_OF(SK_V6ONLY) >> 3));
			out.v6only = bits >> (OFFSET_OF(SK_V6ONLY) & 7) & 1;
			bpf_probe_read_kernel(out.local_ip, sizeof(out.local_ip), sk + OFFSET_OF(SK_V6_RCV_SADDR));
			bpf_probe_read_kernel(out.remote_ip, sizeof(out.remote_ip), sk + OFFSET_OF(SK_V6_DADDR));
		}
		bpf_seq_write(ctx->meta->seq, &out, sizeof(out));
		if (!head)
			break;
	}
	return 0;
}
