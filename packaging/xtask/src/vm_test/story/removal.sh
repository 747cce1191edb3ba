# And away. What the kernel frees, it frees after a grace period.
gone() { [ "$(kernel_objects | tr '\n' ' ')" = "0 0 0 " ]; }
say "info in the kernel while it runs: $(kernel_objects | tr '\n' ' ')programs, maps, links"
check "no object of ours is unseen" not gone
check "apt removes it" apt-get remove -y pilotfish
check "the unit is gone" not is_active
check "no process is left" not pidof pilotfish
check "no program is left at the containers" [ "$(filters web) $(filters client)" = "0 0" ]
check "no program, map or link is left in the kernel" wait_for 30 gone
check "no pin is left" [ -z "$(ls /sys/fs/bpf 2>/dev/null)" ]
check "no socket is left" not test -e /run/pilotfish
both_run() { ctr -n k8s.io tasks list | grep -c RUNNING | grep -qx 2; }
check "the containers live" both_run
check "they still talk" request 5
check "apt purges it" apt-get purge -y pilotfish
find / -xdev -iname '*pilotfish*' -not -path '/proc/*' -not -path '/srv/*' -not -path '/sys/*' >/tmp/left
nothing_left() { cat /tmp/left; [ ! -s /tmp/left ]; }
check "no file is left" nothing_left
no_account() { ! getent passwd pilotfish && ! getent group pilotfish; }
check "no account is left" no_account
say "info check: $(tr '\n' '|' <check.out)"
