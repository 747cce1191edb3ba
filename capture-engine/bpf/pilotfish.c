/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* One object, so that both programs have the same maps. */
#include "pilotfish_netns.c"
#include "pilotfish_host.c"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
