/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Packets that come to the pod. Reached by a tail call from `pilotfish_stub`. Loads from Linux 6.1 on. */
#include "handle.h"

SEC("classifier")
int pilotfish_in(struct __sk_buff *skb)
{
	return pf_handle(skb, PF_INGRESS);
}
