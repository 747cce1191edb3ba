# Reload, a containerd that goes and comes, and ends of the process that nobody asked for.
pid=$(main_pid)
same_process() { [ "$(main_pid)" = "$pid" ] && is_active; }
mark
check "reload is taken" systemctl reload $UNIT
check "the journal tells of it" wait_for 10 journal_says "configuration was read again"
printf '[log]\nlevel = "debug"\n[capture]\nflows = 4096\n' >/etc/pilotfish/agent.toml
check "reload of a changed file is taken" systemctl reload $UNIT
check "what can change has changed" wait_for 10 journal_says "log.level changed"
check "what cannot is named" journal_says "taken over by a restart only"
check "with its section as a field" journal_has 'F_SECTIONS=capture$'
echo 'surprise = 1' >>/etc/pilotfish/agent.toml
check "reload of a faulty file fails" not systemctl reload $UNIT
check "it names line and key" journal_says "agent.toml:5.*surprise"
check "the process is the same" same_process
: >/etc/pilotfish/agent.toml
systemctl reload $UNIT

systemctl restart containerd
check "containerd is found again" wait_for 60 has_containerd /run/containerd/containerd.sock
check "its restart keeps the process" same_process
before=$(counted)
request 20
check "it still counts" grows_to $((before + 20))

# k3s brings a containerd of its own, at a place of its own, that stops with it.
systemctl stop containerd
check "STATUS says that containerd is gone" wait_for 60 says "containerd"
k3s=/run/k3s/containerd
mkdir -p $k3s
systemd-run -q --unit k3s-containerd containerd --config /dev/null --root /var/lib/k3s-containerd --state $k3s/state --address $k3s/containerd.sock
check "k3s's containerd is found" wait_for 60 has_containerd $k3s/containerd.sock
systemctl stop k3s-containerd
systemctl start containerd
check "the other is found again" wait_for 60 has_containerd /run/containerd/containerd.sock
check "both are attached again" wait_for 60 is_attached
check "still the same process" same_process

restarts=$(show NRestarts)
kill -9 "$pid"
check "it is restarted after kill -9" wait_for 60 restarted "$restarts"
check "it is attached again" wait_for 60 is_attached
check "one program a direction after kill -9" wait_for 10 is_attached_once
# Nothing is taken over after a kill: what was written before would be older than what was scraped.
check "counters begin anew after kill -9" [ "$(counted)" = 0 ]
request 20
check "it counts again" grows_to 20

restarts=$(show NRestarts)
mark
kill -STOP "$(main_pid)"
check "the watchdog ends what is stopped" wait_for 120 restarted "$restarts"
check "it was the watchdog" journal_says watchdog
check "it is attached after the watchdog" wait_for 60 is_attached
request 20
check "it counts after the watchdog" grows_to 20
