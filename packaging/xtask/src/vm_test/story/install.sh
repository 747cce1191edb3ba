# A node that is not ready for it yet, then one that is.
systemctl stop containerd
mark
check "apt installs the deb" apt-get install -y ./first.deb
check "the unit is active without a containerd" wait_for 60 is_active
check "STATUS says what it waits for" wait_for 30 says "waiting for containerd"
say "info start to READY: $(systemctl show -p InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic --value $UNIT | tr '\n' ' ')us (from, to; emulated)"
check "it is enabled" systemctl is-enabled $UNIT
nothing_missing() { pilotfish check >check.out; code=$?; ! grep MISSING check.out && return $code; }
check "pilotfish check finds nothing missing" nothing_missing
systemctl start containerd
check "STATUS names containerd" wait_for 60 has_containerd /run/containerd/containerd.sock
field_of_the_journal() { [ -n "$(journalctl -q SYSLOG_IDENTIFIER=pilotfish F_SOCKET=/run/containerd/containerd.sock -o cat)" ]; }
check "the journal has values as fields" wait_for 10 field_of_the_journal
levels() { [ -n "$(journalctl -q SYSLOG_IDENTIFIER=pilotfish PRIORITY=5 + SYSLOG_IDENTIFIER=pilotfish PRIORITY=6 -o cat)" ]; }
check "the journal has levels" levels
man_pages() { for page in pilotfish pilotfish-agent pilotfish-check; do test -s /usr/share/man/man1/$page.1.gz || return 1; done; }
completions() { test -s /usr/share/zsh/vendor-completions/_pilotfish && test -s /usr/share/fish/vendor_completions.d/pilotfish.fish && bash -n /usr/share/bash-completion/completions/pilotfish; }
check "completions are there" completions
check "manual pages are there" man_pages

ip link add bridge type bridge
ip link set bridge up
ip addr add 10.99.0.1/24 dev bridge
check "a server starts" container web 10.99.0.2 /bin/busybox httpd -f -p 80 -h /www
check "a client starts" container client 10.99.0.3 /bin/busybox sleep 100000
check "both are attached" wait_for 60 is_attached
check "one program a direction" is_attached_once
request 20
check "its requests are counted and named" grows_to 20
both_names() { pilotfish edges | grep client-0 | grep -q web-0; }
check "both ends have names" both_names
services_observed() { pilotfish status >/tmp/status; grep '^host network' /tmp/status; grep -q '^host network, by cgroup: [0-9]* attached' /tmp/status && ! grep -q '^host network.*failed' /tmp/status; }
check "the node's services are observed" wait_for 60 services_observed
say "info $(grep '^host network' /tmp/status)"
